/** A run that somebody started by hand and the configuration names (see NativeMatch for why it may be stopped). */
import { realpath, stat } from 'node:fs/promises';
import { lookAt, type ProcessSight, readArgv, readBootId, readExecutable, stillLives } from '../../processes/proc.js';
import type { EndTarget } from '../processes/ending.js';
import { readTable, signalMembers, type TableEntry, treeIn } from '../processes/tree.js';
import { listenersOn } from './ports.js';
import { findProgram } from './program.js';
import type { NativeRun } from './run.js';
import type { NativeMatch } from './service.js';

/**
 * The processes that match, without those whose parent matches (workers of one service show the same command line).
 * @param taken pids of runs that are known already, also of other services
 */
export async function findMatching(
  match: NativeMatch,
  table: readonly TableEntry[],
  taken: ReadonlySet<number>,
): Promise<TableEntry[]> {
  const { file } = await findProgram(match.executable, process.env['PATH'] ?? '');
  if (file === null) return [];
  const executable = await realpath(file);
  const checked = await Promise.all(
    table.map(async (entry) => (!taken.has(entry.pid) && (await matches(entry.pid, executable, match)) ? entry : null)),
  );
  const all = checked.filter((entry) => entry !== null);
  const roots = all.filter((entry) => !all.some(({ pid }) => pid === entry.parent));
  if (match.port === undefined || roots.length === 0) return roots;
  const listeners = await listenersOn(match.port);
  return roots.filter((root) =>
    listeners.some(({ pid }) => treeIn(table, rootOf(root, [])).some((member) => member.pid === pid)),
  );
}

export async function createMatchedRun(found: ProcessSight): Promise<NativeRun> {
  const leader = { pid: found.pid, startTicks: found.startTicks };
  const argv = await readArgv(found.pid);
  let seen: ProcessSight[] = [];

  /** Each look anew: a process that replaced its program is no longer the one that the configuration names. */
  async function proven(): Promise<'ours' | 'gone' | 'not-ours'> {
    const shown = await readArgv(leader.pid);
    if (!(await stillLives(leader))) return 'gone';
    return argv !== null && shown !== null && isEqual(argv, shown) ? 'ours' : 'not-ours';
  }

  async function members(table: readonly TableEntry[] | null = null): Promise<ProcessSight[]> {
    seen = treeIn(table ?? (await readTable()), rootOf(leader, seen));
    return seen;
  }

  const target: EndTarget = {
    async ended() {
      for (const member of seen) if (await stillLives(member)) return false;
      return !(await stillLives(leader));
    },
    async signal(name) {
      const proof = await proven();
      if (proof === 'not-ours') return proof;
      if (proof === 'ours') await members();
      if (seen.length === 0) return 'gone';
      // Never its group, which may be that of the script that started it.
      return (await signalMembers(seen, name)) ? 'unknown' : 'ours';
    },
  };

  return {
    id: `${(await readBootId()) ?? 'no-boot-id'}.${leader.pid}.${leader.startTicks}`,
    leader,
    gpus: null,
    target,
    async look(table) {
      const proof = await proven();
      // Its leftovers are nobody's: only the process itself was named.
      if (proof === 'gone') return { state: 'ended', members: [] };
      return { state: proof === 'ours' ? 'running' : 'unknown', members: await members(table) };
    },
    forget: async () => {},
  };
}

async function matches(pid: number, executable: string, match: NativeMatch): Promise<boolean> {
  const argv = await readArgv(pid);
  const isWanted = (word: string, i: number) => argv?.[i] === word || (i === 0 && word === match.executable);
  if (argv === null || !match.argv.every(isWanted)) return false;
  if ((await readExecutable(pid)) !== executable || typeof (await lookAt(pid)) === 'string') return false;
  const owner = await stat(`/proc/${pid}`).then(
    ({ uid }) => uid,
    () => null,
  );
  return owner !== null && owner === process.getuid?.();
}

const rootOf = (leader: Pick<ProcessSight, 'pid' | 'startTicks'>, seen: readonly ProcessSight[]) => ({
  marker: null,
  leader,
  ownSession: false,
  listed: [],
  seen,
});

function isEqual(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((word, i) => word === other[i]);
}
