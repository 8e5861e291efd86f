import { CPU } from '../contracts/names.js';
import type { AgentView, StepOutcome } from '../contracts/operation.js';
import type { PlanStep } from '../contracts/plan.js';

/**
 * The outcome of a step that was done although its attempt never answered: the worker died after the effect.
 * The two observations are its proof.
 */
export function doneUnseen(step: PlanStep, before: AgentView, after: AgentView): Omit<StepOutcome, 'attempts'> {
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
      by: 'seen at the next look; the worker that did it died before it could say so',
    },
  };
}

const usedMb = ({ observation }: AgentView): Record<string, number | null> =>
  Object.fromEntries(
    observation.devices.filter((device) => device.id !== CPU).map((device) => [device.id, device.usedMb]),
  );
