import type { Reservation } from '../contracts/lease.js';
import type { Status } from '../contracts/status.js';
import { leaseWords } from './lease.js';

/** The lock on the host's GPU (P7), as the status shows it. All but `devices` is null while nobody has it. */
export interface GpuLock {
  holder: string | null;
  kind: 'lease' | 'operation' | null;
  /** The lease's id, or the operation's workflow. */
  id: string | null;
  what: string | null;
  devices: string[];
  /** ISO. */
  since: string | null;
  held_ms: number | null;
  expires_at: string | null;
}

const FREE: GpuLock = {
  holder: null,
  kind: null,
  id: null,
  what: null,
  devices: [],
  since: null,
  held_ms: null,
  expires_at: null,
};

/**
 * Who waits for the lock waits for the program that has a whole GPU; while there is none, for the operation that changes
 * what is loaded. A lease over a part of a GPU is no lock: others find room beside it. Pure.
 */
export function gpuLock(reservations: readonly Reservation[], turns: Status['turns'], nowMs: number): GpuLock {
  const [lease] = reservations.filter(({ mb }) => mb === null).sort((a, b) => a.grantedAtMs - b.grantedAtMs);
  if (lease !== undefined) {
    return {
      holder: lease.holder,
      kind: 'lease',
      id: lease.id,
      what: leaseWords(lease),
      devices: lease.gpus,
      since: new Date(lease.grantedAtMs).toISOString(),
      held_ms: Math.max(0, nowMs - lease.grantedAtMs),
      expires_at: new Date(lease.expiresAtMs).toISOString(),
    };
  }
  const [turn] = turns;
  if (turn === undefined) return FREE;
  return {
    holder: turn.workflow_id,
    kind: 'operation',
    id: turn.workflow_id,
    what: 'a change of what is loaded',
    devices: turn.devices,
    since: new Date(nowMs - turn.for_ms).toISOString(),
    held_ms: turn.for_ms,
    expires_at: null,
  };
}
