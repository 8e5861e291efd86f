/**
 * One operation: asks for its turn, observes, plans, carries the plan out, observes again, concludes, releases.
 * All workflows that change a residency run through here.
 */
import {
  ApplicationFailure,
  CancellationScope,
  isCancellation,
  log,
  setCurrentDetails,
  sleep,
} from '@temporalio/workflow';
import { FAILURE } from '../contracts/failures.js';
import type { AgentView, OperationInput, OperationOutcome, StepOutcome } from '../contracts/operation.js';
import type { PlanResult, PlanStep } from '../contracts/plan.js';
import { withoutArrived } from '../domain/arrived.js';
import { MAX_LOOK_AGAIN, pauseAfter, verdictOf } from '../domain/attempts.js';
import { checkGoal } from '../domain/checkGoal.js';
import { describeGoal, nothingMoved } from '../domain/describeGoal.js';
import { explainPlan, simulatedMark } from '../domain/explainPlan.js';
import { planResidency } from '../domain/planResidency.js';
import { withAsked } from '../domain/reservations.js';
import { resolveTarget } from '../domain/resolveTarget.js';
import { doneUnseen } from '../domain/unseen.js';
import { verbOf } from '../domain/verbs.js';
import { cancelledWhen } from './cancelledWhen.js';
import { concludeOperation } from './conclusion.js';
import { failureOf } from './failures.js';
import { asList, clean, failed, type Progress } from './progress.js';
import { agentReads } from './proxies.js';
import { type FailedStep, runSteps } from './steps.js';
import { Turn } from './turn.js';

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

export class Operation {
  readonly turn: Turn;
  readonly what: string;
  readonly startedAt = Date.now();
  readonly steps: StepOutcome[] = [];
  /** The first view, and the latest one: null before any, and when what was seen says nothing of the end. */
  former: AgentView | null = null;
  last: AgentView | null = null;
  /** Each plan of the rounds, in order; the last one of a success is empty. */
  readonly plans: PlanResult[] = [];
  /** Why the first plan was as it was: stays readable on the closed workflow (law 11). */
  explained: string[] = [];
  round = 0;
  private readonly attempts = new Map<string, number>();
  /** Steps whose attempt did not end well: they may have been done all the same. */
  private unanswered: PlanStep[] = [];

  constructor(readonly input: OperationInput) {
    this.turn = new Turn(input);
    this.what = describeGoal(input.goal);
  }

  async run(): Promise<OperationOutcome> {
    setCurrentDetails(`waits for its turn: ${this.what}`);
    let progress: Progress;
    let cancelled: Error | null = null;
    try {
      progress = await this.inTurn();
    } catch (error) {
      if (isCancellation(error) && error instanceof Error && this.turn.supersededBy === null) cancelled = error;
      progress = this.ended(error);
    }
    return CancellationScope.nonCancellable(async () => {
      const outcome = await concludeOperation(this, progress);
      if (cancelled !== null) throw cancelled;
      return outcome;
    });
  }

  call() {
    return { operation: this.turn.operation, epochs: this.turn.epochs };
  }

  /** @param mayRenew false at the end: an operation whose turn is another's by then does not ask for a new one */
  async observe(mayRenew = true): Promise<AgentView> {
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

  loaded(): string[] {
    return this.steps.filter((step) => step.kind === 'load' && step.acted).map((step) => step.tenant);
  }

  private async inTurn(): Promise<Progress> {
    switch (await this.turn.acquire()) {
      case 'granted':
        // A newer mode switch ends it wherever it is (M11).
        return cancelledWhen(
          () => this.turn.supersededBy !== null,
          () => this.reachTarget(),
        );
      case 'superseded':
        return { status: 'superseded', summary: `${this.what}: superseded while it waited`, ...clean };
      case 'no-turn':
        return failed(this.what, {
          type: FAILURE.noTurn,
          message: 'its turn did not come in time',
          remedy: 'vramflow status shows who holds the turn; vramflow doctor whether the agent runs',
        });
    }
  }

  /** Observe → plan → steps, until the plan is empty. */
  private async reachTarget(): Promise<Progress> {
    for (let lookAgain = 0; ; ) {
      const view = await this.observe();
      const unknown = checkGoal(this.input.goal, view.policy);
      if (unknown) return failed(this.what, unknown);
      const declined = await this.closeGate();
      if (declined === 'look-again') {
        lookAgain += 1;
        if (lookAgain > MAX_LOOK_AGAIN) return failed(this.what, agentRestarts);
        continue;
      }
      if (declined !== null) return declined;
      const plan = this.plan(view);
      if (plan.kind === 'refusal') {
        const summary = `${this.what}: ${plan.refusal.message}`;
        return { status: 'refused', summary, failure: null, refusal: plan.refusal };
      }
      if (plan.steps.length === 0) return { status: 'done', summary: this.doneSummary(), ...clean };
      const repeated = plan.steps.find((step) => this.isDone(step));
      if (repeated) {
        // To prove again what is there is no sign that something undid it; for ever it is not asked all the same.
        if (isConfirmation(repeated)) lookAgain += 1;
        const lasts = isConfirmation(repeated)
          ? lookAgain <= MAX_LOOK_AGAIN
          : this.countAttempt(repeated) <= view.policy.maxLoadRetries;
        const problem = { type: FAILURE.premiseGone, message: undone(repeated), remedy: 'see vramflow events' };
        if (!lasts) return { ...failed(this.what, problem), failedTenant: repeated.tenant };
      }
      const call = { ...this.call(), goal: this.input.goal };
      const problems = await runSteps(this.input.host, plan.steps, call, view.policy, this.round, (done) =>
        this.steps.push({ ...done, attempts: this.attemptsOf(done) + 1 }),
      );
      const [problem] = problems;
      if (problem === undefined) continue;
      const verdict = verdictOf(problem.type);
      log.info('a step failed', { step: problem.step.id, type: problem.type, message: problem.message, verdict });
      if (verdict === 'look-again') lookAgain += 1;
      this.unanswered = problems.map(({ step }) => step);
      const givenUp = this.givesUp(problem, verdict, lookAgain, view.policy.maxLoadRetries);
      if (givenUp) return givenUp;
      const tried = verdict === 'look-again' ? lookAgain : this.attemptsOf(problem.step);
      await sleep(pauseAfter(tried), { summary: `before another attempt of ${problem.step.tenant}` });
    }
  }

  private plan(view: AgentView): PlanResult {
    const { observation, policy } = view;
    const asked = withAsked(observation, this.input.goal, policy);
    const wanted = resolveTarget(this.input.goal, this.intents(), policy, asked);
    const plan = planResidency(asked, withoutArrived(wanted, this.loaded(), asked), policy);
    this.plans.push(plan);
    if (plan.kind === 'plan') this.takeUnseen(plan, view);
    const lines = [...simulatedMark(observation), ...explainPlan(plan, observation)];
    if (this.plans.length === 1) this.explained = lines;
    setCurrentDetails(`${this.what}${asList(lines)}`);
    return plan;
  }

  /** What attempts did that did not end well. */
  private takeUnseen(plan: Extract<PlanResult, { kind: 'plan' }>, view: AgentView): void {
    const done = this.unanswered.filter(
      (step) => !plan.steps.some(({ kind, tenant }) => kind === step.kind && tenant === step.tenant),
    );
    this.unanswered = [];
    for (const step of done) {
      const outcome = doneUnseen(step, this.former ?? view, view);
      if (outcome !== null) this.steps.push({ ...outcome, attempts: this.attemptsOf(step) + 1 });
    }
  }

  /** After a failed step: the end of the operation, or null to look and try again. */
  private givesUp(
    problem: FailedStep,
    verdict: ReturnType<typeof verdictOf>,
    lookAgain: number,
    maxRetries: number,
  ): Progress | null {
    const failedTenant = problem.step.tenant;
    if (verdict === 'look-again') {
      return lookAgain > MAX_LOOK_AGAIN ? { ...failed(this.what, problem), failedTenant } : null;
    }
    if (verdict !== 'retry') return { ...failed(this.what, problem), failedTenant };
    const tried = this.countAttempt(problem.step);
    if (tried > maxRetries) return { ...failed(`${this.what}, after ${tried} attempts`, problem), failedTenant };
    setCurrentDetails(`${this.what}: attempt ${tried} failed (${problem.message}); tries again`);
    return null;
  }

  /** Idle unload only: the gate closes if the model is idle still. Null: it goes on. */
  private async closeGate(): Promise<Progress | 'look-again' | null> {
    if (this.input.goal.kind !== 'idle-unload') return null;
    const { tenant } = this.input.goal;
    try {
      const answer = await agentReads(this.input.host).closeIfIdle({ ...this.call(), tenant });
      // Not resident: the plan has nothing to unload, or it is done. A direct request may have brought it back meanwhile.
      if (answer.closed || answer.remainingMs === null) return null;
    } catch (error) {
      if (failureOf(error)?.type === FAILURE.premiseGone) return 'look-again';
      throw error;
    }
    return { status: 'done', summary: `${tenant} is not idle: it stays`, ...clean };
  }

  private ended(error: unknown): Progress {
    if (isCancellation(error)) {
      const by = this.turn.supersededBy;
      return by === null
        ? { status: 'cancelled', summary: `${this.what}: cancelled`, ...clean }
        : { status: 'superseded', summary: `${this.what}: superseded by ${by.workflowId}`, ...clean };
    }
    const failure = failureOf(error);
    return failed(this.what, failure ?? { type: FAILURE.agentAway, message: String(error), remedy: null });
  }

  private doneSummary(): string {
    // One that did not act found it true.
    const acted = this.steps.filter((step) => step.acted);
    if (acted.length === 0) return `${this.what}: ${nothingMoved(this.input.goal, this.former)}`;
    const did = acted.map((step) => `${verbOf(step)} ${step.tenant} (${(step.ms / 1000).toFixed(1)} s)`);
    return `${this.what}: ${did.join(', ')}`;
  }

  private intents() {
    if (this.turn.grant === null) throw new Error('an operation planned without its turn');
    return this.turn.grant.intents;
  }

  /** A step of this kind has succeeded already, and something undid it: that is bounded as failures are (law 8). */
  private isDone = (step: PlanStep): boolean =>
    this.steps.some(({ kind, tenant }) => kind === step.kind && tenant === step.tenant);

  private attemptsOf = (step: { kind: string; tenant: string }): number =>
    this.attempts.get(`${step.kind} ${step.tenant}`) ?? 0;

  private countAttempt(step: PlanStep): number {
    const tried = this.attemptsOf(step) + 1;
    this.attempts.set(`${step.kind} ${step.tenant}`, tried);
    return tried;
  }
}

/** A probe of what is there. */
const isConfirmation = (step: PlanStep): boolean => step.kind === 'load' && step.confirms;

const agentRestarts = {
  type: FAILURE.premiseGone,
  message: 'the agent ends and starts again and again',
  remedy: 'see why in its log: supervisor.log in the data folder',
};

const undone = ({ kind, tenant }: PlanStep): string =>
  `${kind} ${tenant} succeeded, but it did not last: something else on this host changes it back`;
