import { FAILURE } from '../contracts/failures.js';
import { tenantName } from '../contracts/names.js';
import type { OperationGoal } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import { findPhase } from './phases.js';

/** A goal must name what the configuration has (law 12). Null: it does. */
export function checkGoal(
  goal: OperationGoal,
  policy: HostPolicy,
): { type: string; message: string; remedy: string } | null {
  if (goal.kind === 'mode' && !Object.hasOwn(policy.modes, goal.mode)) {
    return {
      type: FAILURE.unknownMode,
      message: `the configuration has no mode "${goal.mode}"`,
      remedy: `the modes are: ${Object.keys(policy.modes).sort().join(', ')}`,
    };
  }
  if (goal.kind === 'model' && goal.verb === 'load' && !policy.models.some((m) => m.name === tenantName(goal.tenant))) {
    return {
      type: FAILURE.unknownTenant,
      message: `the configuration has no model "${tenantName(goal.tenant)}"`,
      remedy: `the models are: ${policy.models
        .map((model) => model.name)
        .sort()
        .join(', ')}`,
    };
  }
  if (goal.kind === 'phase' && findPhase(policy, goal.phase) === null) {
    return {
      type: FAILURE.unknownPhase,
      message: `the configuration has no phase "${goal.phase}"`,
      remedy: `the phases are: ${policy.phases.map(({ name }) => name).join(', ') || 'none'}`,
    };
  }
  if (goal.kind === 'service' && !policy.services.some(({ name }) => name === tenantName(goal.tenant))) {
    return {
      type: FAILURE.unknownTenant,
      message: `the configuration has no service "${tenantName(goal.tenant)}"`,
      remedy: `the services are: ${policy.services.map(({ name }) => name).join(', ') || 'none'}`,
    };
  }
  return null;
}
