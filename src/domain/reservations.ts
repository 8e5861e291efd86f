/** Reservations as the planner sees them. Pure. */

import type { LeaseRequest } from '../contracts/lease.js';
import { CPU, reservationTenant } from '../contracts/names.js';
import type { OperationGoal } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation, TenantObservation } from '../contracts/residency.js';
import { leastOf, sharesOf } from './planner/leases.js';

export function reservationOf(
  { id, holder, mb, on = 1, priority }: LeaseRequest,
  chargeMb: number,
  change: Partial<TenantObservation> = {},
): TenantObservation {
  return {
    id: reservationTenant(id),
    kind: 'reservation',
    driver: 'leases',
    state: 'absent',
    proven: true,
    holdings: [],
    chargeMb,
    chargeSource: 'declared',
    peakMb: chargeMb,
    uses: 0,
    idleForMs: null,
    residentForMs: null,
    loadMs: 0,
    pinned: false,
    priority,
    allowCpu: false,
    configured: false,
    lease: { holder, mb, on },
    ...change,
  };
}

/** The host with the lease that is asked for as an absent tenant. */
export function withAsked(observed: HostObservation, goal: OperationGoal, policy: HostPolicy): HostObservation {
  if (goal.kind !== 'lease') return observed;
  if (observed.tenants.some(({ id }) => id === goal.tenant)) return observed;
  const gpus = observed.devices.filter(({ id }) => id !== CPU);
  const leastMb = leastOf(goal.request, sharesOf(goal.request, gpus, policy.reserveMb));
  return { ...observed, tenants: [...observed.tenants, reservationOf(goal.request, leastMb)] };
}
