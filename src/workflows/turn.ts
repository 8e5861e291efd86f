/** An operation's side of its turn: asks, waits, releases. */
import {
  ApplicationFailure,
  condition,
  getExternalWorkflowHandle,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { FAILURE } from '../contracts/failures.js';
import { workflowId } from '../contracts/names.js';
import type { Epochs, OperationInput, OperationOutcome, OperationRef, TurnGrant } from '../contracts/operation.js';
import { control } from './proxies.js';
import * as signals from './signals.js';

/** Longer than a few turns that all last until the host ends them, which it does after 15 min or more (law 8). */
const LONGEST_WAIT_MS = 4 * 3_600_000;

/** A host that does not answer in this time is asked again, and started if it does not run. */
const ASK_AGAIN = '10s';

export class Turn {
  readonly operation: OperationRef;
  grant: TurnGrant | null = null;
  /** The newer mode switch that takes this one's place (M11). */
  supersededBy: OperationRef | null = null;
  /** Someone waits for these devices: a failed operation then does not put the former residency back. */
  successorWaits = false;

  constructor(private readonly input: OperationInput) {
    const { workflowId: id, runId } = workflowInfo();
    this.operation = { workflowId: id, runId };
    setHandler(signals.turnGranted, (grant) => {
      if (grant.runId === runId) this.grant = grant;
    });
    setHandler(signals.superseded, ({ by }) => {
      this.supersededBy = by;
    });
    setHandler(signals.successorWaiting, ({ waits }) => {
      this.successorWaits = waits;
    });
  }

  get epochs(): Epochs {
    return this.grant?.epochs ?? {};
  }

  async acquire(): Promise<'granted' | 'superseded' | 'no-turn'> {
    const until = Date.now() + LONGEST_WAIT_MS;
    await this.ask();
    const answered = () => this.grant !== null || this.supersededBy !== null;
    while (!(await condition(answered, ASK_AGAIN, { summary: 'waits for its turn' }))) {
      if (Date.now() >= until) return 'no-turn';
      await this.askAnew();
    }
    return this.supersededBy === null ? 'granted' : 'superseded';
  }

  /** The agent has seen higher epochs than the host knew: asks for a grant above them. @throws `NoTurn` */
  async renew(highest: Epochs): Promise<void> {
    this.grant = null;
    await this.host().signal(signals.refuseEpoch, { operation: this.operation, highest });
    const until = Date.now() + LONGEST_WAIT_MS;
    while (!(await condition(() => this.grant !== null, ASK_AGAIN, { summary: 'waits for a new turn' }))) {
      if (Date.now() >= until) throw ApplicationFailure.nonRetryable('a new turn did not come in time', FAILURE.noTurn);
      await this.askAnew();
    }
  }

  /** Releases with the outcome. A host that is gone needs none: its successor starts from what the agent sees. */
  async release(outcome: OperationOutcome): Promise<void> {
    try {
      await this.host().signal(signals.releaseTurn, { operation: this.operation, goal: this.input.goal, outcome });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  private host() {
    return getExternalWorkflowHandle(workflowId.gpuHost(this.input.host));
  }

  private async ask(): Promise<void> {
    try {
      await this.host().signal(signals.requestTurn, this.request());
    } catch (error) {
      if (!isNotFound(error)) throw error;
      await this.askAnew();
    }
  }

  private async askAnew(): Promise<void> {
    await control.requestTurnOfNewHost(this.input.host, this.request());
  }

  private request() {
    const { goal, requestedBy, priority } = this.input;
    const startedAtMs = workflowInfo().startTime.getTime();
    return { operation: this.operation, devices: 'all' as const, goal, requestedBy, priority, startedAtMs };
  }
}

/** How the SDK says that the target of an external signal does not run. */
export const isNotFound = (error: unknown): boolean =>
  error instanceof Error && /not found|SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED/i.test(error.message);
