import type { LeaseRequest, LeaseState } from '../contracts/lease.js';

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
