/**
 * The compute processes as the second stream shows them. That stream is silent when no process runs, and it is
 * silent when it hangs: so silence alone says nothing. The list is known while lines come (a process whose line
 * stopped coming has left), or while a query of its own has proven, not long ago, that no process runs. A process that
 * this machine has seen alive and that lives no more is marked as ended at once: its line comes a moment longer, and is
 * missed two ticks later. It stays on the list so long, because its memory may be in use as long as it is listed.
 */
import { UNNAMED } from '../../contracts/names.js';
import type { GpuProcess, ListedProcess } from './reader.js';

/** How long a proof of silence holds; it is renewed a little earlier. */
const PROOF_MS = 30_000;
const RENEW_MS = 25_000;

interface Seen {
  process: ListedProcess;
  /** Of its last line. */
  at: number;
  wasAlive: boolean;
  /** As last seen: of one that is about to end neither can be read any more. */
  parent: string | null;
  verb: string | null;
}

/** What can be seen of the processes of this machine. */
export interface Sights {
  /** The name of the parent of the process that has that id and that name. */
  parentOf(pid: number, name: string): string | null;
  /** Asked once a process: the answer of one that hangs in the kernel may never come. */
  argvOf(pid: number): Promise<string[] | null>;
}

const SEES_NOTHING: Sights = { parentOf: () => null, argvOf: () => Promise.resolve(null) };

export interface ProcessTable {
  see(process: ListedProcess, at: number): void;
  /** A line that cannot be read: the list is not whole. */
  odd(at: number): void;
  /** A query of its own, asked at this moment, ended well and listed nothing. Void if a line came since. */
  proveEmpty(at: number): void;
  /** The stream ended: nothing is known until lines or a proof come again. */
  forget(): void;
  /** A line counts for `windowMs`: at least two ticks of the stream. Null: the list is not known. */
  list(now: number, windowMs: number): GpuProcess[] | null;
  /** True when silence needs a proof. */
  needsProof(now: number, windowMs: number): boolean;
}

/** @param lives whether a process of this machine has that id; for an id of another namespace that says nothing */
export function createProcessTable(lives: (pid: number) => boolean, sights = SEES_NOTHING): ProcessTable {
  const seen = new Map<string, Seen>();
  let oddAt = Number.NEGATIVE_INFINITY;
  let emptyAt = Number.NEGATIVE_INFINITY;
  let lineAt = Number.NEGATIVE_INFINITY;

  const expire = (now: number, windowMs: number): void => {
    for (const [key, { at }] of seen) if (now - at > windowMs) seen.delete(key);
  };

  return {
    see(process, at) {
      const key = `${process.uuid}/${process.pid}`;
      emptyAt = Number.NEGATIVE_INFINITY;
      lineAt = at;
      const former = seen.get(key);
      const one: Seen = former ?? { process, at, wasAlive: false, parent: null, verb: null };
      // The driver shows a process that is about to end with its memory, but without its name (580 on an H200, 2026-11-26).
      const name = process.name === UNNAMED ? one.process.name : process.name;
      one.process = { ...process, name };
      one.at = at;
      one.wasAlive ||= lives(process.pid);
      if (former !== undefined) return;
      seen.set(key, one);
      void sights.argvOf(process.pid).then((argv) => {
        one.verb = argv === null ? null : (argv[1] ?? '');
      });
    },
    odd(at) {
      oddAt = at;
    },
    proveEmpty(at) {
      if (lineAt < at) emptyAt = at;
    },
    forget() {
      seen.clear();
      emptyAt = Number.NEGATIVE_INFINITY;
    },
    list(now, windowMs) {
      if (now - oddAt <= windowMs) return null;
      expire(now, windowMs);
      if (seen.size === 0 && now - emptyAt > PROOF_MS) return null;
      return [...seen.values()].map((one) => {
        const { process, wasAlive } = one;
        one.parent = sights.parentOf(process.pid, process.name) ?? one.parent;
        const { parent, verb } = one;
        return {
          ...process,
          ...(parent === null || verb === null ? {} : { descent: { verb, parent } }),
          ...(wasAlive && !lives(process.pid) ? { ended: true as const } : {}),
        };
      });
    },
    needsProof(now, windowMs) {
      expire(now, windowMs);
      return seen.size === 0 && now - emptyAt > RENEW_MS;
    },
  };
}
