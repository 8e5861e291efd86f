/**
 * The whole tree of an owned run. A child that left its parent's group and session (a double fork) still carries the
 * marker, or is in the run's cgroup; one that dropped its environment, too, was a descendant when it was last seen.
 */
import { findProcesses, lookAt, type ProcessSight, readMarker } from '../../processes/proc.js';

/** A process at one look, with its ownership marker; null also when that cannot be read. */
export interface TableEntry extends ProcessSight {
  marker: string | null;
}

/** The kernel's own threads are children of its thread 2, in no session. */
const isKernelThread = ({ parent, session }: ProcessSight): boolean => parent === 2 && session === 0;

/** Every live process of this machine that can be looked at. About 0.3 ms of CPU a process: not for every second. */
export async function readTable(): Promise<TableEntry[]> {
  const sights = await findProcesses(async (sight) => !isKernelThread(sight));
  return Promise.all(
    sights.map(async (sight) => {
      const found = await readMarker(sight.pid);
      return { ...sight, marker: typeof found === 'string' ? null : found.marker };
    }),
  );
}

export interface TreeRoot {
  /** Null for a process that we did not start. */
  marker: string | null;
  /** Proven and alive; null once it has ended. */
  leader: Pick<ProcessSight, 'pid' | 'startTicks'> | null;
  /** The leader was started with a session of its own, so whoever is in it is its descendant. */
  ownSession: boolean;
  /** What the run's cgroup lists. */
  listed: readonly number[];
  /** Members at an earlier look. The same process is a member still, whatever its parent and group are by now. */
  seen: readonly ProcessSight[];
}

/** Pure. The leader first, when it lives. */
export function treeIn(table: readonly TableEntry[], root: TreeRoot): TableEntry[] {
  const { marker, listed, seen } = root;
  const leader = table.find((entry) => isSame(entry, root.leader)) ?? null;
  const belongs = (entry: TableEntry): boolean =>
    entry === leader ||
    (marker !== null && entry.marker === marker) ||
    listed.includes(entry.pid) ||
    seen.some((member) => isSame(entry, member)) ||
    (leader !== null && root.ownSession && entry.session === leader.pid);
  const members = new Set(table.filter(belongs));
  // Children of members are members. Each round finds one generation more.
  for (let before = -1; before !== members.size; ) {
    before = members.size;
    const pids = new Set([...members].map(({ pid }) => pid));
    for (const entry of table) if (pids.has(entry.parent)) members.add(entry);
  }
  const others = table.filter((entry) => entry !== leader && members.has(entry));
  return leader === null ? others : [leader, ...others];
}

/**
 * Signals these very processes, each looked at right before; one under a pid of theirs that is another is left alone.
 * @returns whether the system forbade one of the signals
 */
export async function signalMembers(members: readonly ProcessSight[], signal: NodeJS.Signals): Promise<boolean> {
  let forbidden = false;
  for (const member of members) {
    const now = await lookAt(member.pid);
    if (typeof now === 'string' || now.ended || now.startTicks !== member.startTicks) continue;
    if (sendSignal(member.pid, signal) === 'forbidden') forbidden = true;
  }
  return forbidden;
}

/** @param target a pid, or the negative number of a group */
export function sendSignal(target: number, signal: NodeJS.Signals): 'sent' | 'gone' | 'forbidden' {
  // To the system these are process 1, our own group and everybody.
  if (Math.abs(target) <= 1) throw new RangeError(`${target} names no process of ours.`);
  try {
    process.kill(target, signal);
    return 'sent';
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ESRCH') return 'gone';
    if (code === 'EPERM') return 'forbidden';
    throw error;
  }
}

function isSame(entry: ProcessSight, other: Pick<ProcessSight, 'pid' | 'startTicks'> | null): boolean {
  return other !== null && entry.pid === other.pid && entry.startTicks === other.startTicks;
}
