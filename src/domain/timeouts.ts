import { isReservation, serviceTenant, tenantName } from '../contracts/names.js';
import type { PlanStep } from '../contracts/plan.js';
import type { HostPolicy, ModelPolicy, ServicePolicy } from '../contracts/policy.js';

/** So long has the holder of a revoked lease to give it back. */
export const LEASE_GRACE_MS = 10_000;

/** The bounds of models that the configuration does not name (M19's defaults). */
const DEFAULT_LOAD_SECONDS = 30;
const DEFAULT_UNLOAD_SECONDS = 5;

export const servicePolicy = (policy: HostPolicy, tenant: string): ServicePolicy | undefined =>
  policy.services.find((service) => serviceTenant(service.name) === tenant);

export const modelPolicy = (policy: HostPolicy, tenant: string): ModelPolicy | undefined =>
  policy.models.find((model) => model.name === tenantName(tenant));

/** Milliseconds that one attempt of a step may take (M19); whole ones, as timers want them. */
export function attemptMs(step: PlanStep, policy: HostPolicy): number {
  // The grace of its holder, and a margin.
  if (isReservation(step.tenant)) return LEASE_GRACE_MS + 10_000;
  const service = servicePolicy(policy, step.tenant);
  if (service !== undefined) {
    return Math.ceil((step.kind === 'load' ? service.startTimeoutSeconds : service.stopTimeoutSeconds) * 1000);
  }
  const model = modelPolicy(policy, step.tenant);
  switch (step.kind) {
    case 'load':
      return Math.ceil((model?.loadTimeoutSeconds ?? DEFAULT_LOAD_SECONDS) * 1000);
    case 'unload':
      return Math.ceil((model?.unloadTimeoutSeconds ?? DEFAULT_UNLOAD_SECONDS) * 1000);
    case 'move':
      return Math.ceil(policy.embedder.moveTimeoutSeconds * 1000);
  }
}
