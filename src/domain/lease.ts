import type { LeaseRequest, LeaseState } from '../contracts/lease.js';
import { gpuCount } from './planner/leases.js';

/** A lease that was just asked for. */
export const queuedLease = (host: string, request: LeaseRequest): LeaseState => ({
  ...request,
  host,
  state: 'queued',
  position: null,
  gpus: [],
  epochs: {},
  expiresAt: null,
  renewal: null,
  reason: null,
  remedy: null,
});

/** What was asked for, for people: `a whole GPU`, `2 whole GPUs`, `6000 MB on each of 2 GPUs`. */
export function leaseWords(terms: Pick<LeaseRequest, 'mb' | 'on'>): string {
  const count = gpuCount(terms);
  if (terms.mb === null) return count === 1 ? 'a whole GPU' : `${count} whole GPUs`;
  return count === 1 ? `${terms.mb} MB` : `${terms.mb} MB on each of ${count} GPUs`;
}
