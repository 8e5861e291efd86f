/** Reservations as the planner sees them. Pure. */

import type { LeaseRequest } from '../contracts/lease.js';
import { CPU, reservationTenant } from '../contracts/names.js';
import type { OperationGoal } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { DeviceObservation, HostObservation, TenantObservation } from '../contracts/residency.js';

export function reservationOf(
  request: LeaseRequest,
  chargeMb: number,
  change: Partial<TenantObservation> = {},
): TenantObservation {
  return {
    id: reservationTenant(request.id),
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
    priority: request.priority,
    allowCpu: false,
    configured: false,
    ...change,
  };
}

/** What a lease asks for, on the GPUs as they are: a whole one is what strangers leave of it. */
export function chargeOf({ mb, gpu }: LeaseRequest, devices: DeviceObservation[], policy: HostPolicy): number {
  if (mb !== null) return mb;
  const whole = devices
    .filter((device) => device.id !== CPU && (gpu === null || device.id === gpu) && device.totalMb !== null)
    .map(({ totalMb, foreignMb }) => (totalMb ?? 0) - policy.reserveMb - (foreignMb ?? 0));
  return Math.max(1, ...whole);
}

/** The host with the lease that is asked for as an absent tenant; where it names a GPU, the others take no part in it. */
export function withAsked(observed: HostObservation, goal: OperationGoal, policy: HostPolicy): HostObservation {
  if (goal.kind !== 'lease') return observed;
  if (observed.tenants.some(({ id }) => id === goal.tenant)) return observed;
  const { gpu } = goal.request;
  const asked = reservationOf(goal.request, chargeOf(goal.request, observed.devices, policy));
  const devices = observed.devices.map((device) =>
    gpu === null || device.id === gpu || device.id === CPU
      ? device
      : { ...device, quarantine: device.quarantine ?? 'another GPU is asked for' },
  );
  return { ...observed, devices, tenants: [...observed.tenants, asked] };
}
