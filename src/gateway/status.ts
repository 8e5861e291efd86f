/** `GET /gpu/status` (P11), from the agent's memory, so that it answers at once also while a phase is being prepared. */
import type { Agent } from '../agent/agent.js';
import { statusOf } from '../agent/status.js';
import type { Reservation } from '../contracts/lease.js';
import { tenantName } from '../contracts/names.js';
import type { TenantObservation } from '../contracts/residency.js';
import { SERVICE_STATES } from '../contracts/status.js';
import { gpuLock } from '../domain/gpuLock.js';
import { version } from '../version.js';
import type { GpuStatus } from './schemas.js';

const startedAt = Date.now();

export function gpuStatus(agent: Agent): GpuStatus {
  const status = statusOf(agent, version, startedAt);
  const { vram, turns, tenants, simulated, phase, phase_problem, degraded_mode, degraded_reason } = status;
  const reservations = agent.reservations.all();
  return {
    vram: vram && { total_mb: vram.total_mb, used_mb: vram.used_mb, free_mb: vram.free_mb },
    services: Object.fromEntries(
      tenants.filter(({ kind }) => kind === 'service').map((tenant) => [tenantName(tenant.id), serviceOf(tenant)]),
    ),
    lock: gpuLock(reservations, turns, Date.now()),
    leases: reservations.map(leaseOf),
    phase,
    phase_problem,
    degraded: degraded_mode,
    degraded_reason,
    simulated,
  };
}

const serviceOf = ({ state, holdings, priority, chargeMb, trouble }: TenantObservation) => ({
  state: SERVICE_STATES[state],
  vram_mb: holdings.reduce((sum, { mb }) => sum + mb, 0),
  charge_mb: chargeMb,
  priority,
  ...(trouble === undefined ? {} : { reason: trouble.reason, next_try_at: trouble.nextTryAt }),
});

const leaseOf = ({ id, holder, mb, gpus, priority, grantedAtMs, expiresAtMs }: Reservation) => ({
  id,
  holder,
  mb,
  gpus,
  priority,
  since: new Date(grantedAtMs).toISOString(),
  expires_at: new Date(expiresAtMs).toISOString(),
});
