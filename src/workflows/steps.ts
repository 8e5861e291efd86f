/** Runs the steps of one plan in the order that the plan gives, independent ones side by side. */
import { CancellationScope, getExternalWorkflowHandle, isCancellation } from '@temporalio/workflow';
import type { FencedCall, StepCall } from '../contracts/activities.js';
import { isReservation, isService, tenantName, workflowId } from '../contracts/names.js';
import type { OperationGoal, StepOutcome } from '../contracts/operation.js';
import type { PlanStep } from '../contracts/plan.js';
import type { HostPolicy } from '../contracts/policy.js';
import { attemptMs } from '../domain/timeouts.js';
import { verbOf } from '../domain/verbs.js';
import { failureOf, type StepFailure } from './failures.js';
import { agentStep } from './proxies.js';
import * as signals from './signals.js';
import { isNotFound } from './turn.js';

export interface FailedStep extends StepFailure {
  step: PlanStep;
}

/**
 * One attempt at each step. After a failure no further step starts; those under way end first.
 * @returns the failures, in the order in which they came
 */
export async function runSteps(
  host: string,
  steps: PlanStep[],
  call: FencedCall & { goal: OperationGoal },
  policy: HostPolicy,
  round: number,
  onDone: (outcome: StepOutcome) => void,
): Promise<FailedStep[]> {
  const problems: FailedStep[] = [];
  const running = new Map<string, Promise<void>>();
  for (const step of steps) {
    const before = step.after.map((id) => running.get(id) ?? Promise.resolve());
    running.set(
      step.id,
      Promise.all(before).then(async () => {
        if (problems.length > 0 || CancellationScope.current().consideredCancelled) return;
        try {
          onDone(await runStep(host, step, call, policy, round));
        } catch (error) {
          if (isCancellation(error)) throw error;
          const failure = failureOf(error);
          if (failure === null) throw error;
          problems.push({ ...failure, step });
        }
      }),
    );
  }
  await Promise.all(running.values());
  return problems;
}

async function runStep(
  host: string,
  step: PlanStep,
  call: FencedCall & { goal: OperationGoal },
  policy: HostPolicy,
  round: number,
): Promise<StepOutcome> {
  const agent = agentStep(host, attemptMs(step, policy));
  const args: [StepCall] = [{ ...call, step, round }];
  const options = { summary: `${verbOf(step)} ${step.tenant}: ${step.why}`.slice(0, 190) };
  const ofService = isService(step.tenant);
  if (isReservation(step.tenant)) {
    if (step.kind !== 'unload') return agent.grantReservation.executeWithOptions(options, args);
    await tellLease(host, step.tenant);
    const outcome = await agent.endReservation.executeWithOptions(options, args);
    await tellLease(host, step.tenant);
    return outcome;
  }
  switch (step.kind) {
    case 'unload':
      return ofService
        ? agent.stopService.executeWithOptions(options, args)
        : agent.unloadTenant.executeWithOptions(options, args);
    case 'load':
      return ofService
        ? agent.startService.executeWithOptions(options, args)
        : agent.loadTenant.executeWithOptions(options, args);
    case 'move':
      return agent.moveEmbedder.executeWithOptions(options, args);
  }
}

/** Its workflow shows that something else takes its memory, and ends once it has. */
async function tellLease(host: string, tenant: string): Promise<void> {
  try {
    await getExternalWorkflowHandle(workflowId.lease(host, tenantName(tenant))).signal(signals.leaseRevoked);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}
