/** A run that we started: proven by its record and marker, or by the cgroup that was made for it. */
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';

import type { EndTarget } from '../processes/ending.js';
import { completeRecord, hasEnded, type OwnershipRecord, type Proof, proveOurs } from '../processes/ownership.js';
import { type ProcessSight, stillLives } from '../processes/proc.js';
import type { RecordStore } from '../processes/records.js';
import { readTable, sendSignal, signalMembers, treeIn } from '../processes/tree.js';
import { killCgroup, listCgroup, removeCgroup } from './cgroup.js';
import type { NativeRun } from './run.js';

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

/** The run of a record. A manager that died right after the spawn left an intent: the marker finds its process. */
export async function ownedRunOf(found: NativeRecord, store: RecordStore<NativeDetails>): Promise<NativeRun> {
  const record = (await completeRecord(found)) ?? found;
  if (record !== found) await store.write(record);
  return createOwnedRun(record, store);
}

function createOwnedRun(record: NativeRecord, store: RecordStore<NativeDetails>): NativeRun {
  const { marker, cgroup } = record;
  const leader = { pid: record.pid ?? -1, startTicks: record.startTicks ?? -1 };
  let seen: ProcessSight[] = [];
  let killed = false;

  async function prove(): Promise<Proof> {
    const proof = await proveOurs(record);
    if (proof === 'ours' || proof === 'gone') return proof;
    const inCgroup = (await listCgroup(cgroup, marker)).includes(leader.pid);
    return inCgroup && (await stillLives(leader)) ? 'ours' : proof;
  }

  async function settledProof(): Promise<Proof> {
    let proof = await prove();
    for (let look = 1; proof === 'unknown' && look < SETTLE_LOOKS; look++) {
      await delay(SETTLE_EVERY_MS);
      proof = await prove();
    }
    return proof;
  }

  async function members(proof: Proof): Promise<ProcessSight[]> {
    const [table, listed] = await Promise.all([readTable(), listCgroup(cgroup, marker)]);
    seen = treeIn(table, { marker, leader: proof === 'ours' ? leader : null, ownSession: true, listed, seen });
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
      const group = proof === 'ours' ? sendSignal(-leader.pid, name) : 'gone';
      if (name === 'SIGKILL') await killCgroup(cgroup, marker);
      const rest = tree.filter((member) => group !== 'sent' || member.group !== leader.pid);
      const forbidden = await signalMembers(rest, name);
      return forbidden || group === 'forbidden' ? 'unknown' : 'ours';
    },
  };

  return {
    id: marker,
    leader,
    gpus: record.gpus,
    target,
    async look() {
      const proof = await settledProof();
      const tree = await members(proof);
      if (proof === 'ours') return { state: 'running', members: tree };
      // A process without our marker under the pid and start time of the record: the record is wrong, not the process.
      return { state: proof === 'unknown' ? 'unknown' : 'ended', members: tree };
    },
    async forget() {
      await removeCgroup(cgroup, marker);
      await store.remove(marker);
    },
  };
}
