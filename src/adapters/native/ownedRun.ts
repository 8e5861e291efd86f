/**
 * A run that we started. It is proven by its record and its marker. A program can lose the marker: some write their title
 * over their environment, as Python's setproctitle does. Then the handle of our child proves it, or the run's cgroup.
 */
import type { ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';
import { type ProcessSight, stillLives } from '../../processes/proc.js';
import type { EndTarget } from '../processes/ending.js';
import { completeRecord, hasEnded, type OwnershipRecord, type Proof, proveOurs } from '../processes/ownership.js';
import type { RecordStore } from '../processes/records.js';
import { readTable, sendSignal, signalMembers, type TableEntry, treeIn } from '../processes/tree.js';
import { killCgroup, listCgroup, removeCgroup } from './cgroup.js';
import type { Leader, NativeRun } from './run.js';

export const nativeDetails = z.object({
  /** UUIDs that it was started with. */
  gpus: z.array(z.string()),
  /** The folder of its cgroup; null where there is none. */
  cgroup: z.string().nullable(),
});

export type NativeDetails = z.infer<typeof nativeDetails>;
export type NativeRecord = OwnershipRecord & NativeDetails;

/** A process that exits, or that replaces its program, cannot be proven for a moment. */
const SETTLE_LOOKS = 4;
const SETTLE_EVERY_MS = 50;

/**
 * The run of a record, or of the process that an intent's marker finds.
 * @param handle of our own child; a successor has none
 */
export function createOwnedRun(
  found: NativeRecord,
  store: RecordStore<NativeDetails>,
  handle: ChildProcess | null = null,
): NativeRun {
  const { marker, cgroup } = found;
  let record = found;
  let seen: ProcessSight[] = [];
  let killed = false;

  const leader = (): Leader | null =>
    record.pid === null || record.startTicks === null ? null : { pid: record.pid, startTicks: record.startTicks };

  async function prove(): Promise<Proof> {
    if (record.pid === null) {
      // A manager that died right after the spawn left an intent.
      const complete = await completeRecord(record);
      if (complete === null) return 'gone';
      record = complete;
      await store.write(record);
    }
    const proof = await proveOurs(record);
    const first = leader();
    if (proof === 'ours' || proof === 'gone' || first === null) return proof;
    // The pid of a child is not given away before its parent has seen its end.
    const isChild = handle?.pid === first.pid && handle.exitCode === null && handle.signalCode === null;
    const isOurs = isChild || (await listCgroup(cgroup, marker)).includes(first.pid);
    return isOurs && (await stillLives(first)) ? 'ours' : proof;
  }

  async function settledProof(): Promise<Proof> {
    let proof = await prove();
    for (let look = 1; proof === 'unknown' && look < SETTLE_LOOKS; look++) {
      await delay(SETTLE_EVERY_MS);
      proof = await prove();
    }
    return proof;
  }

  async function members(proof: Proof, given: readonly TableEntry[] | null = null): Promise<ProcessSight[]> {
    const first = proof === 'ours' ? leader() : null;
    // An older table knows what lives on. It does not know what was forked by one that has ended since.
    const isFirst = ({ pid, startTicks }: TableEntry) => pid === first?.pid && startTicks === first.startTicks;
    const table = given?.some(isFirst) === true ? given : await readTable();
    const listed = await listCgroup(cgroup, marker);
    seen = treeIn(table, { marker, leader: first, ownSession: true, listed, seen });
    return seen;
  }

  const target: EndTarget = {
    async ended() {
      // Cheap while one that is known lives; only then all of /proc is looked through.
      for (const member of seen) if (await stillLives(member)) return false;
      const proof = await prove();
      const left = await members(proof);
      // Forked while the others were killed.
      if (killed) await signalMembers(left, 'SIGKILL');
      return left.length === 0 && (await hasEnded(record));
    },
    async signal(name) {
      const proof = await prove();
      const tree = await members(proof);
      if (tree.length === 0) return proof;
      killed ||= name === 'SIGKILL';
      // As one, so that none of the group sees another end first and starts it again.
      const first = leader();
      const group = proof === 'ours' && first !== null ? sendSignal(-first.pid, name) : 'gone';
      if (name === 'SIGKILL') await killCgroup(cgroup, marker);
      const rest = tree.filter((member) => group !== 'sent' || member.group !== first?.pid);
      const forbidden = await signalMembers(rest, name);
      return forbidden || group === 'forbidden' ? 'unknown' : 'ours';
    },
  };

  return {
    id: marker,
    get leader() {
      return leader();
    },
    gpus: found.gpus,
    target,
    async look(table) {
      const proof = await settledProof();
      const tree = await members(proof, table);
      if (proof === 'ours') return { state: 'running', members: tree };
      return { state: proof === 'gone' ? 'ended' : 'unknown', members: tree };
    },
    async forget() {
      await removeCgroup(cgroup, marker);
      await store.remove(marker);
    },
  };
}
