/**
 * Law 5: never signal what is not proven ours. A process is ours when boot id, pid and start time are those of
 * our record on disk and its environment carries the record's marker. Where that cannot be read (no /proc, no
 * right), nothing is known and nothing is signalled.
 */
import {
  findByMarker,
  findProcesses,
  lookAt,
  type ProcessSight,
  readBootId,
  readMarker,
} from '../../processes/proc.js';

/** What is on disk of a process that outlives its manager (law 6). */
export interface OwnershipRecord {
  /** Unique to one start; the process has it in its environment as VRAMFLOW_OWNER. */
  marker: string;
  /** Null on platforms without one. */
  bootId: string | null;
  /** Null: an intent. The process may exist; its marker finds it. */
  pid: number | null;
  /** Ticks since the boot; null with `pid`, or where it cannot be read. */
  startTicks: number | null;
  command: string[];
}

/**
 * - `ours`: proven, and alive
 * - `gone`: the process of the record has ended, also when its pid belongs to another one now
 * - `not-ours`: a process with that pid and start time lives, without our marker
 * - `unknown`: it cannot be proven either way; for a moment also while it exits
 */
export type Proof = 'ours' | 'gone' | 'not-ours' | 'unknown';

export async function proveOurs(record: OwnershipRecord): Promise<Proof> {
  const bootId = await readBootId();
  if (bootId === null || record.bootId === null) return 'unknown';
  if (bootId !== record.bootId) return 'gone';
  if (record.pid === null) return (await findLeader(record.marker)) === null ? 'gone' : 'ours';
  if (record.startTicks === null) return 'unknown';
  const before = await sameProcess(record.pid, record.startTicks);
  if (before !== 'same') return before;
  const found = await readMarker(record.pid);
  if (found === 'unknown' || found === 'exiting') return 'unknown';
  // Looked at again: the environment that was read is that of the process seen before.
  const after = await sameProcess(record.pid, record.startTicks);
  if (after !== 'same') return after;
  if (found === 'gone') return 'unknown';
  return found.marker === record.marker ? 'ours' : 'not-ours';
}

/** The record of an intent, completed with the process that its marker finds; null when there is none. */
export async function completeRecord<R extends OwnershipRecord>(record: R): Promise<R | null> {
  if (record.pid !== null) return record;
  if (record.bootId === null || record.bootId !== (await readBootId())) return null;
  const leader = await findLeader(record.marker);
  return leader === null ? null : { ...record, pid: leader.pid, startTicks: leader.startTicks };
}

/**
 * Signals the whole group of a process that is proven ours, at this moment. When the process itself has ended,
 * members of its group that carry the marker are proof enough: a group's number is not given away while one lives.
 * Answers what was found; only after `ours` a signal was sent.
 */
export async function signalOurs(record: OwnershipRecord, signal: 'SIGTERM' | 'SIGKILL'): Promise<Proof> {
  const complete = await completeRecord(record);
  if (complete === null || complete.pid === null) return 'gone';
  let proof = await proveOurs(complete);
  if (proof === 'gone' && (await remains(complete)).marked) proof = 'ours';
  if (proof !== 'ours') return proof;
  try {
    process.kill(-complete.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'gone';
    throw error;
  }
  return 'ours';
}

/** Whether nothing of it lives any more: neither the process nor a member of its group with its marker. */
export async function hasEnded(record: OwnershipRecord): Promise<boolean> {
  if ((await proveOurs(record)) !== 'gone') return false;
  const { marked, exiting } = await remains(record);
  return !marked && !exiting;
}

/** What is left of the group: members with the marker, and members that exit and may still hold a device. */
async function remains(record: OwnershipRecord): Promise<{ marked: boolean; exiting: boolean }> {
  if (record.pid === null || record.bootId === null || record.bootId !== (await readBootId())) {
    return { marked: false, exiting: false };
  }
  const members = await findProcesses(async ({ group }) => group === record.pid);
  const found = await Promise.all(members.map(({ pid }) => readMarker(pid)));
  return {
    marked: found.some((each) => typeof each !== 'string' && each.marker === record.marker),
    exiting: found.includes('exiting'),
  };
}

async function findLeader(marker: string): Promise<ProcessSight | null> {
  const found = await findByMarker(marker);
  return found.find((sight) => sight.group === sight.pid) ?? null;
}

async function sameProcess(pid: number, startTicks: number): Promise<'same' | 'gone' | 'unknown'> {
  const sight = await lookAt(pid);
  if (typeof sight === 'string') return sight;
  return sight.ended || sight.startTicks !== startTicks ? 'gone' : 'same';
}
