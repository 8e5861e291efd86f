import { tenantName } from '../contracts/names.js';
import type { HostPolicy, PhasePolicy } from '../contracts/policy.js';
import type { TenantObservation } from '../contracts/residency.js';
import { SERVICE_STATES } from '../contracts/status.js';
import { describeTrouble } from './describeTrouble.js';

/** A phase by its name or its number (P3); null: the configuration has none such. */
export function findPhase(policy: Pick<HostPolicy, 'phases'>, asked: string): PhasePolicy | null {
  const byName = policy.phases.find((phase) => phase.name === asked);
  return byName ?? policy.phases.find((phase) => phase.number !== null && String(phase.number) === asked) ?? null;
}

/** Why the phase that was prepared last is degraded: each of its services that is not ready; null when all are. */
export function phaseProblem(
  policy: Pick<HostPolicy, 'phases'>,
  phase: string | null,
  tenants: Pick<TenantObservation, 'id' | 'state' | 'trouble'>[],
): string | null {
  const listed = phase === null ? [] : (findPhase(policy, phase)?.services ?? []);
  const down = listed.flatMap((id) => {
    const tenant = tenants.find((one) => one.id === id);
    if (tenant?.state === 'resident') return [];
    const trouble = tenant?.trouble === undefined ? '' : `: ${describeTrouble(tenant.trouble)}`;
    return [`${tenantName(id)} is ${SERVICE_STATES[tenant?.state ?? 'unknown']}${trouble}`];
  });
  return down.length === 0 ? null : down.join('; ');
}
