import { CPU } from '../contracts/names.js';
import type { AgentView, StepOutcome } from '../contracts/operation.js';
import type { PlanStep } from '../contracts/plan.js';
import type { HostObservation } from '../contracts/residency.js';

/**
 * The outcome of a step that was done although its attempt did not end well: its worker died after the effect, or its time
 * was up just before. The two observations are its proof. Null: what is seen now does not show that it was done.
 */
export function doneUnseen(step: PlanStep, before: AgentView, after: AgentView): Omit<StepOutcome, 'attempts'> | null {
  if (!shows(step, after.observation)) return null;
  return {
    step: step.id,
    kind: step.kind,
    tenant: step.tenant,
    ms: step.expectedMs,
    acted: true,
    proof: {
      beforeMb: usedMb(before),
      afterMb: usedMb(after),
      reclaimMs: null,
      by: 'seen at the next look; its attempt could not say so any more',
    },
  };
}

function shows(step: PlanStep, observed: HostObservation): boolean {
  const tenant = observed.tenants.find(({ id }) => id === step.tenant);
  if (tenant === undefined) return false;
  switch (step.kind) {
    case 'unload':
      return tenant.holdings.length === 0 && ['absent', 'error'].includes(tenant.state);
    case 'load':
      return tenant.state === 'resident' && tenant.proven;
    case 'move':
      return tenant.state === 'resident' && tenant.holdings.some(({ device }) => device === step.to);
  }
}

const usedMb = ({ observation }: AgentView): Record<string, number | null> =>
  Object.fromEntries(
    observation.devices.filter((device) => device.id !== CPU).map((device) => [device.id, device.usedMb]),
  );
