/** The end of an operation: what stands is stated, put back where it failed, written down; then the turn is released. */
import { isCancellation, log, setCurrentDetails, upsertMemo, upsertSearchAttributes } from '@temporalio/workflow';
import { FAILURE } from '../contracts/failures.js';
import { SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import type { PlanResult } from '../contracts/plan.js';
import type { HostPolicy } from '../contracts/policy.js';
import { describeGoal } from '../domain/describeGoal.js';
import { planResidency } from '../domain/planResidency.js';
import { formerResidency, goneSince, residencyOf } from '../domain/residency.js';
import { cancelledWhen } from './cancelledWhen.js';
import { failureOf } from './failures.js';
import type { Operation } from './operation.js';
import { asList, failed, type Progress } from './progress.js';
import { agentReads, control } from './proxies.js';
import { runSteps } from './steps.js';

export async function concludeOperation(operation: Operation, progress: Progress): Promise<OperationOutcome> {
  const compensation = await settle(operation, progress);
  let outcome: OperationOutcome = { ...outcomeOf(operation, progress), compensation };
  const { status, summary } = outcome;
  setCurrentDetails(
    `**${status}:** ${summary}${compensation ? `\n\n${compensation}` : ''}${asList(operation.explained)}`,
  );
  const timers = keepIdleTimers(operation, outcome);
  if (operation.last !== null) outcome = await record(operation, outcome);
  await timers;
  showEnd(operation, outcome);
  await operation.turn.release(outcome);
  return outcome;
}

/** Makes the residency at the end known, and after a failure the former one, as far as that can be. */
async function settle(operation: Operation, progress: Progress): Promise<string | null> {
  const isTurnLost = progress.failure?.type === FAILURE.fenced || progress.failure?.type === FAILURE.staleEpoch;
  if (operation.turn.grant === null || isTurnLost) {
    // What was seen before says nothing of the end.
    operation.last = null;
    return null;
  }
  if (progress.status === 'done' || operation.last === null) return null;
  try {
    // The barrier: ends what still runs of this operation, so that the residency stated below is final.
    await operation.observe(false);
    // A refusal may come plans later than the steps that made room.
    const hasActed = operation.plans.some((plan) => plan.kind === 'plan');
    const putsBack = progress.status === 'failed' || (progress.status === 'refused' && hasActed);
    return putsBack ? await compensate(operation) : null;
  } catch (error) {
    operation.last = null;
    return `the residency could not be read: ${failureOf(error)?.message ?? String(error)}`;
  }
}

const GIVES_WAY = 'the former residency is not put back: another operation waits';

/** One pass towards the former residency; a failure here is stated, not retried. A successor ends it. */
async function compensate(operation: Operation): Promise<string> {
  const { former, last, plans } = operation;
  if (former === null || last === null) return 'nothing had changed';
  const touched = plans.flatMap((plan) => (plan.kind === 'plan' ? plan.steps : [])).map((step) => step.tenant);
  const gone = goneSince(former.observation, touched, last.observation);
  const target = formerResidency(former.observation, touched, last.observation);
  const plan = planResidency(last.observation, target, last.policy);
  const rest = await putBack(operation, plan, last.policy);
  return gone.length === 0 ? rest : `${gone.join(', ')} cannot be put back; of the rest: ${rest}`;
}

async function putBack(operation: Operation, plan: PlanResult, policy: HostPolicy): Promise<string> {
  const { input, turn } = operation;
  if (plan.kind === 'plan' && plan.steps.length === 0) return 'the former residency stands';
  if (turn.successorWaits) return GIVES_WAY;
  if (plan.kind === 'refusal') return `the former residency cannot be put back: ${plan.refusal.message}`;
  const run = () =>
    runSteps(input.host, plan.steps, { ...operation.call(), goal: input.goal }, policy, operation.round, (done) =>
      operation.steps.push(done),
    );
  const problems = await cancelledWhen(() => turn.successorWaits, run).catch((error: unknown) => {
    if (isCancellation(error)) return GIVES_WAY;
    throw error;
  });
  await operation.observe(false);
  if (typeof problems === 'string') return problems;
  if (problems[0]) return `the former residency could not be put back: ${problems[0].message}`;
  return `put back: ${plan.steps.map((step) => `${step.kind} ${step.tenant}`).join(', ')}`;
}

function outcomeOf(operation: Operation, progress: Progress): OperationOutcome {
  const { last, plans, steps, input, turn, startedAt } = operation;
  const residency = last === null ? null : residencyOf(last.observation);
  const displaced = plans.flatMap((plan) => (plan.kind === 'plan' ? plan.displaced : []));
  return {
    ...progress,
    failedTenant: progress.failedTenant ?? null,
    goal: input.goal,
    steps,
    supersededBy: turn.supersededBy?.workflowId ?? null,
    compensation: null,
    // What was put back after a failure is not displaced.
    displaced: [...new Set(displaced)].filter((tenant) => (residency?.[tenant]?.length ?? 0) === 0),
    residency,
    epochs: turn.epochs,
    totalMs: Date.now() - startedAt,
  };
}

/** For lists and filters, and for who reads a closed workflow without its history. */
function showEnd({ input: { goal, requestedBy } }: Operation, { status, summary }: OperationOutcome): void {
  upsertSearchAttributes({
    [SEARCH_ATTRIBUTES.outcome]: [status],
    ...(goal.kind === 'mode' ? { [SEARCH_ATTRIBUTES.mode]: [goal.mode] } : {}),
    ...('tenant' in goal ? { [SEARCH_ATTRIBUTES.tenant]: [goal.tenant] } : {}),
  });
  upsertMemo({ request: describeGoal(goal), requestedBy, outcome: `${status}: ${summary}` });
}

/** What the agent cannot record is not done; the turn is released all the same. */
async function record(operation: Operation, outcome: OperationOutcome): Promise<OperationOutcome> {
  const { goal, requestedBy, host } = operation.input;
  const mode = outcome.status === 'done' && goal.kind === 'mode' ? goal.mode : null;
  const phase = outcome.status === 'done' && goal.kind === 'phase' ? goal.phase : null;
  // The plan that says what was done and why: later rounds plan what is left of it.
  const plan = operation.plans[0] ?? null;
  const conclusion = { ...operation.call(), goal, requestedBy, outcome, plan, mode, phase };
  try {
    await agentReads(host).conclude.executeWithOptions({ summary: outcome.summary.slice(0, 190) }, [conclusion]);
    return outcome;
  } catch (error) {
    const failure = failureOf(error);
    if (failure === null) throw error;
    const message = `its end could not be recorded: ${failure.message}`;
    return outcome.status === 'done'
      ? { ...outcome, ...failed(outcome.summary, { ...failure, message }) }
      : { ...outcome, summary: `${outcome.summary}; ${message}` };
  }
}

/** A model that came has its durable timer (M12), also one that came with an attempt that failed. */
async function keepIdleTimers(operation: Operation, { residency }: OperationOutcome): Promise<void> {
  if (residency === null || operation.former === null) return;
  const isIn = (where: Record<string, string[]>, tenant: string) => (where[tenant]?.length ?? 0) > 0;
  const before = residencyOf(operation.former.observation);
  const came = Object.keys(residency).filter(
    (tenant) =>
      tenant.startsWith('model/') &&
      isIn(residency, tenant) &&
      (!isIn(before, tenant) || operation.loaded().includes(tenant)),
  );
  for (const tenant of came) {
    try {
      await control.ensureIdleTimer(operation.input.host, tenant);
    } catch (error) {
      // The host's next look makes up for it; the turn must be released.
      log.warn('an idle timer could not be started', { tenant, error: String(error) });
    }
  }
}
