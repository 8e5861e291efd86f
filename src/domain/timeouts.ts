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

/** Of a stop's time, so much is the graceful part, and what still lives after so much is stuck; the rest is for the proof. */
const GRACE_SHARE = 0.7;
const END_SHARE = 0.9;
/** What was killed before and is still there has had its grace; putting things back may ask for its end once more. */
const AGAIN_SHARE = 0.1;
/** Of a start's time, so much is kept to end what has not become ready: nobody waits for its answers. */
const CLEAN_UP_SHARE = 0.2;
const MAX_CLEAN_UP_MS = 6_000;

/** How long a service is asked to end before it is killed, and until when it must have ended. */
export interface EndTimes {
  graceMs: number;
  endMs: number;
}

/** P2: whatever its bound, a stop knows before it is over that something does not end, and can say so. */
export const stopTimes = (limitMs: number, wasStuck = false): EndTimes =>
  wasStuck
    ? { graceMs: 0, endMs: Math.round(limitMs * AGAIN_SHARE) }
    : { graceMs: Math.round(limitMs * GRACE_SHARE), endMs: Math.round(limitMs * END_SHARE) };

/** P2: a start keeps to its bound also when it fails, with all that it began ended by then. */
export function startTimes(limitMs: number): { readyMs: number; cleanUp: EndTimes } {
  const cleanUpMs = Math.round(Math.min(limitMs * CLEAN_UP_SHARE, MAX_CLEAN_UP_MS));
  return { readyMs: limitMs - cleanUpMs, cleanUp: { graceMs: Math.round(cleanUpMs / 2), endMs: cleanUpMs } };
}
