/**
 * One operation: asks for its turn, observes, plans, carries the plan out, observes again, concludes, releases.
 * All workflows that change a residency run through here.
 */
import {
  ApplicationFailure,
  CancellationScope,
  condition,
  isCancellation,
  log,
  setCurrentDetails,
  sleep,
  upsertMemo,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import { FAILURE } from '../contracts/failures.js';
import { SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { AgentView, OperationInput, OperationOutcome, StepOutcome } from '../contracts/operation.js';
import type { PlanResult, PlanStep } from '../contracts/plan.js';
import { withoutArrived } from '../domain/arrived.js';
import { MAX_LOOK_AGAIN, pauseAfter, verdictOf } from '../domain/attempts.js';
import { checkGoal } from '../domain/checkGoal.js';
import { describeGoal } from '../domain/describeGoal.js';
import { explainPlan } from '../domain/explainPlan.js';
import { planResidency } from '../domain/planResidency.js';
import { formerResidency, residencyOf } from '../domain/residency.js';
import { resolveTarget } from '../domain/resolveTarget.js';
import { failureOf } from './failures.js';
import { agentReads, control } from './proxies.js';
import { runSteps } from './steps.js';
import { Turn } from './turn.js';

/** What a run of the steps ended with. */
interface Progress {
  status: OperationOutcome['status'];
  summary: string;
  failure: OperationOutcome['failure'];
  failedTenant?: string;
  refusal: OperationOutcome['refusal'];
}

/**
 * Returns the outcome when it is done, superseded or declined.
 * @throws ApplicationFailure `Refused` or `OperationFailed` with the outcome as detail; CancelledFailure when cancelled,
 * once the residency at the end is known and recorded
 */
export async function runOperation(input: OperationInput): Promise<OperationOutcome> {
  const operation = new Operation(input);
  const outcome = await operation.run();
  if (outcome.status === 'refused') throw ApplicationFailure.nonRetryable(outcome.summary, FAILURE.refused, outcome);
  if (outcome.status === 'failed') {
    throw ApplicationFailure.nonRetryable(outcome.summary, FAILURE.operationFailed, outcome);
  }
  return outcome;
}

class Operation {
  private readonly turn: Turn;
  private readonly startedAt = Date.now();
  private readonly steps: StepOutcome[] = [];
  private readonly attempts = new Map<string, number>();
  private former: AgentView | null = null;
  private last: AgentView | null = null;
  /** Each plan of the rounds, in order; the last one of a success is empty. */
  private readonly plans: PlanResult[] = [];
  /** Why the first plan was as it was: stays readable on the closed workflow (law 11). */
  private explained: string[] = [];
  private round = 0;

  constructor(private readonly input: OperationInput) {
    this.turn = new Turn(input);
  }

  async run(): Promise<OperationOutcome> {
    const what = describeGoal(this.input.goal);
    this.say(`waits for its turn: ${what}`);
    let progress: Progress;
    let cancelled: Error | null = null;
    try {
      progress = await this.inTurn(what);
    } catch (error) {
      if (isCancellation(error) && error instanceof Error && this.turn.supersededBy === null) cancelled = error;
      progress = this.ended(error);
    }
    return CancellationScope.nonCancellable(async () => {
      const outcome = await this.conclude(progress);
      if (cancelled !== null) throw cancelled;
      return outcome;
    });
  }

  private async inTurn(what: string): Promise<Progress> {
    switch (await this.turn.acquire()) {
      case 'granted':
        return this.untilSuperseded(() => this.reachTarget());
      case 'superseded':
        return { status: 'superseded', summary: `${what}: superseded while it waited`, ...clean };
      case 'no-turn':
        return failed(what, {
          type: FAILURE.noTurn,
          message: 'its turn did not come in time',
          remedy: 'vramflow status shows who holds the turn; vramflow doctor whether the agent runs',
        });
    }
  }

  /** Runs the body; a newer mode switch cancels it wherever it is. */
  private async untilSuperseded(body: () => Promise<Progress>): Promise<Progress> {
    const scope = new CancellationScope();
    const watch = new CancellationScope();
    void watch
      .run(async () => {
        await condition(() => this.turn.supersededBy !== null);
        scope.cancel();
      })
      .catch((error: unknown) => {
        if (!isCancellation(error)) throw error;
      });
    try {
      return await scope.run(body);
    } finally {
      watch.cancel();
    }
  }

  /** Observe → plan → steps, until the plan is empty. */
  private async reachTarget(): Promise<Progress> {
    const what = describeGoal(this.input.goal);
    for (let lookAgain = 0; ; ) {
      const view = await this.observe();
      const unknown = checkGoal(this.input.goal, view.policy);
      if (unknown) return failed(what, unknown);
      if (this.input.goal.kind === 'idle-unload') {
        const declined = await this.closeIfIdle(this.input.goal.tenant);
        if (declined) return declined;
      }
      const wanted = resolveTarget(this.input.goal, this.intents(), view.policy, view.observation);
      const target = withoutArrived(wanted, this.loaded(), view.observation);
      const plan = planResidency(view.observation, target, view.policy);
      this.plans.push(plan);
      const lines = explainPlan(plan, view.observation);
      if (this.plans.length === 1) this.explained = lines;
      this.say(`${what}${asList(lines)}`);
      if (plan.kind === 'refusal') {
        return { status: 'refused', summary: `${what}: ${plan.refusal.message}`, failure: null, refusal: plan.refusal };
      }
      if (plan.steps.length === 0)
        return { status: 'done', summary: this.doneSummary(what), failure: null, refusal: null };
      const repeated = plan.steps.find((step) => this.isDone(step));
      if (repeated) {
        const tried = this.countAttempt(repeated);
        const problem = { type: FAILURE.premiseGone, message: undone(repeated), remedy: 'see vramflow events' };
        if (tried > view.policy.maxLoadRetries) return { ...failed(what, problem), failedTenant: repeated.tenant };
      }
      const problem = await runSteps(this.input.host, plan.steps, this.call(), view.policy, this.round, (done) =>
        this.steps.push({ ...done, attempts: this.attemptsOf(done) + 1 }),
      );
      if (problem === null) continue;
      const verdict = verdictOf(problem.type);
      log.info('a step failed', { step: problem.step.id, type: problem.type, message: problem.message, verdict });
      if (verdict === 'lost-turn' || verdict === 'give-up')
        return { ...failed(what, problem), failedTenant: problem.step.tenant };
      if (verdict === 'look-again') {
        lookAgain += 1;
        if (lookAgain > MAX_LOOK_AGAIN) return { ...failed(what, problem), failedTenant: problem.step.tenant };
        await sleep(pauseAfter(lookAgain), { summary: 'before looking again' });
        continue;
      }
      const tried = this.countAttempt(problem.step);
      if (tried > view.policy.maxLoadRetries) {
        return { ...failed(`${what}, after ${tried} attempts`, problem), failedTenant: problem.step.tenant };
      }
      this.say(`${what}: attempt ${tried} failed (${problem.message}); tries again`);
      await sleep(pauseAfter(tried), { summary: `before attempt ${tried + 1} of ${problem.step.tenant}` });
    }
  }

  /** @param mayRenew false at the end: an operation whose turn is another's by then does not ask for a new one */
  private async observe(mayRenew = true): Promise<AgentView> {
    this.round += 1;
    for (;;) {
      try {
        this.last = await agentReads(this.input.host).observe.executeWithOptions(
          { summary: this.round === 1 ? 'what holds the GPU now' : 'is the target true?' },
          [this.call()],
        );
        this.former ??= this.last;
        return this.last;
      } catch (error) {
        const failure = failureOf(error);
        if (failure?.type !== FAILURE.staleEpoch || !mayRenew) throw error;
        await this.turn.renew(failure.details[0] as Record<string, number>);
      }
    }
  }

  private async closeIfIdle(tenant: string): Promise<Progress | null> {
    const answer = await agentReads(this.input.host).closeIfIdle({ ...this.call(), tenant });
    // Not resident: the plan has nothing to unload, or it is done. A direct request may have brought it back meanwhile.
    if (answer.closed || answer.remainingMs === null) return null;
    return { status: 'done', summary: `${tenant} was used again: it stays`, failure: null, refusal: null };
  }

  /** States the residency, puts the former one back after a failure, writes the journal, releases the turn. */
  private async conclude(progress: Progress): Promise<OperationOutcome> {
    let compensation: string | null = null;
    const isTurnLost = progress.failure?.type === FAILURE.fenced || progress.failure?.type === FAILURE.staleEpoch;
    let mayWrite = this.turn.grant !== null && !isTurnLost;
    if (progress.status !== 'done' && mayWrite && this.last !== null) {
      try {
        // The barrier: ends what still runs of this operation, so that the residency stated below is final.
        await this.observe(false);
        // A refusal may come plans later than the steps that made room.
        const hasActed = this.plans.some((plan) => plan.kind === 'plan');
        if (progress.status === 'failed' || (progress.status === 'refused' && hasActed)) {
          compensation = await this.compensate();
        }
      } catch (error) {
        mayWrite = false;
        compensation = `the residency could not be read: ${failureOf(error)?.message ?? String(error)}`;
      }
    }
    // What was seen before says nothing of the end.
    if (!mayWrite) this.last = null;
    let outcome: OperationOutcome = { ...this.outcome(progress), compensation };
    this.say(
      `**${outcome.status}:** ${outcome.summary}${compensation ? `\n\n${compensation}` : ''}${asList(this.explained)}`,
    );
    const timers = this.keepIdleTimers(outcome);
    if (this.last !== null) outcome = await this.record(outcome);
    await timers;
    this.showEnd(outcome);
    await this.turn.release(outcome);
    return outcome;
  }

  /** For lists and filters, and for who reads a closed workflow without its history. */
  private showEnd({ status, summary }: OperationOutcome): void {
    const { goal, requestedBy } = this.input;
    upsertSearchAttributes({
      [SEARCH_ATTRIBUTES.outcome]: [status],
      ...(goal.kind === 'mode' ? { [SEARCH_ATTRIBUTES.mode]: [goal.mode] } : {}),
      ...('tenant' in goal ? { [SEARCH_ATTRIBUTES.tenant]: [goal.tenant] } : {}),
    });
    upsertMemo({ request: describeGoal(goal), requestedBy, outcome: `${status}: ${summary}` });
  }

  /** What the agent cannot record is not done; the turn is released all the same. */
  private async record(outcome: OperationOutcome): Promise<OperationOutcome> {
    const { goal, requestedBy, host } = this.input;
    const mode = outcome.status === 'done' && goal.kind === 'mode' ? goal.mode : null;
    const conclusion = { ...this.call(), goal, requestedBy, outcome, plan: this.firstPlan(), mode };
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

  /** One pass towards the former residency; a failure here is stated, not retried. */
  private async compensate(): Promise<string> {
    const { former, last } = this;
    if (former === null || last === null) return 'nothing had changed';
    const touched = this.plans.flatMap((plan) => (plan.kind === 'plan' ? plan.steps : [])).map((step) => step.tenant);
    const plan = planResidency(last.observation, formerResidency(former.observation, touched), last.policy);
    if (plan.kind === 'plan' && plan.steps.length === 0) return 'the former residency stands';
    if (this.turn.successorWaits) return 'the former residency is not put back: another operation waits';
    if (plan.kind === 'refusal') return `the former residency cannot be put back: ${plan.refusal.message}`;
    const problem = await runSteps(this.input.host, plan.steps, this.call(), last.policy, this.round, (done) =>
      this.steps.push(done),
    );
    await this.observe(false);
    if (problem !== null) return `the former residency could not be put back: ${problem.message}`;
    return `put back: ${plan.steps.map((step) => `${step.kind} ${step.tenant}`).join(', ')}`;
  }

  /** A model that came has its durable timer (M12), also one that came with an attempt that failed. */
  private async keepIdleTimers({ residency }: OperationOutcome): Promise<void> {
    if (residency === null || this.former === null) return;
    const isIn = (where: Record<string, string[]>, tenant: string) => (where[tenant]?.length ?? 0) > 0;
    const before = residencyOf(this.former.observation);
    const came = Object.keys(residency).filter(
      (tenant) =>
        tenant.startsWith('model/') &&
        isIn(residency, tenant) &&
        (!isIn(before, tenant) || this.loaded().includes(tenant)),
    );
    for (const tenant of came) {
      try {
        await control.ensureIdleTimer(this.input.host, tenant);
      } catch (error) {
        // The host's next look makes up for it; the turn must be released.
        log.warn('an idle timer could not be started', { tenant, error: String(error) });
      }
    }
  }

  private outcome(progress: Progress): OperationOutcome {
    const residency = this.last === null ? null : residencyOf(this.last.observation);
    const displaced = this.plans.flatMap((plan) => (plan.kind === 'plan' ? plan.displaced : []));
    return {
      ...progress,
      failedTenant: progress.failedTenant ?? null,
      goal: this.input.goal,
      steps: this.steps,
      supersededBy: this.turn.supersededBy?.workflowId ?? null,
      compensation: null,
      // What was put back after a failure is not displaced.
      displaced: [...new Set(displaced)].filter((tenant) => (residency?.[tenant]?.length ?? 0) === 0),
      residency,
      totalMs: Date.now() - this.startedAt,
    };
  }

  private ended(error: unknown): Progress {
    const what = describeGoal(this.input.goal);
    if (isCancellation(error)) {
      const by = this.turn.supersededBy;
      return by === null
        ? { status: 'cancelled', summary: `${what}: cancelled`, ...clean }
        : { status: 'superseded', summary: `${what}: superseded by ${by.workflowId}`, ...clean };
    }
    const failure = failureOf(error);
    return failed(what, failure ?? { type: FAILURE.agentAway, message: String(error), remedy: null });
  }

  private doneSummary(what: string): string {
    if (this.steps.length === 0) return `${what}: it was true already`;
    const did = this.steps.map((step) => `${step.kind} ${step.tenant} (${(step.ms / 1000).toFixed(1)} s)`);
    return `${what}: ${did.join(', ')}`;
  }

  private intents() {
    if (this.turn.grant === null) throw new Error('an operation planned without its turn');
    return this.turn.grant.intents;
  }

  /** The plan that says what was done and why: later rounds plan what is left of it. */
  private firstPlan(): PlanResult | null {
    return this.plans[0] ?? null;
  }

  private call() {
    return { operation: this.turn.operation, epochs: this.turn.epochs };
  }

  /** A step of this kind has succeeded already, and something undid it: that is bounded as failures are (law 8). */
  private isDone = (step: PlanStep): boolean =>
    this.steps.some(({ kind, tenant }) => kind === step.kind && tenant === step.tenant);

  private loaded = (): string[] =>
    this.steps.filter((step) => step.kind === 'load' && step.acted).map((step) => step.tenant);

  private attemptsOf = (step: { kind: string; tenant: string }): number =>
    this.attempts.get(`${step.kind} ${step.tenant}`) ?? 0;

  private countAttempt(step: PlanStep): number {
    const tried = this.attemptsOf(step) + 1;
    this.attempts.set(`${step.kind} ${step.tenant}`, tried);
    return tried;
  }

  private say(details: string): void {
    setCurrentDetails(details);
  }
}

const undone = ({ kind, tenant }: PlanStep): string =>
  `${kind} ${tenant} succeeded, but it did not last: something else on this host changes it back`;

/** A paragraph of Markdown; nothing for no lines. */
const asList = (lines: string[]): string =>
  lines.length === 0 ? '' : `\n\n${lines.map((line) => `- ${line}`).join('\n')}`;

const clean = { failure: null, refusal: null };

const failed = (what: string, failure: { type: string | null; message: string; remedy: string | null }): Progress => ({
  status: 'failed',
  summary: `${what}: ${failure.message}`,
  failure: { type: failure.type ?? FAILURE.agentAway, message: failure.message, remedy: failure.remedy },
  refusal: null,
});
