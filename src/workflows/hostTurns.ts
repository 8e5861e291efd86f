/** The shell around domain/turns: carries out what the reducer says, and looks after holders that fall silent. */
import { getExternalWorkflowHandle, log } from '@temporalio/workflow';
import type { TurnState } from '../contracts/messages.js';
import type { Intents, OperationRef } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import { isNews, reduceTurns, type TurnCommand, type TurnEvent, type Turns } from '../domain/turns.js';
import { agentGlances, control } from './proxies.js';
import * as signals from './signals.js';
import { isNotFound } from './turn.js';

/** A holder that has not released by then is looked at; then every as many milliseconds. */
const HOLDER_CHECK_MS = 5_000;
/** An operation that holds a turn longer than this, and than all its attempts may take, is ended (law 8). */
const TURN_DEADLINE_MS = 15 * 60_000;

/** What the turns need of their host. */
export interface TurnsOfHost {
  readonly host: string;
  intents(): Intents;
  policy(): HostPolicy | null;
  /** Runs work that the host's workflow must not end before. */
  inBackground(work: Promise<void>): void;
  /** A holder or waiter ended without a release. */
  onGone(operation: OperationRef): void;
}

export class HostTurns {
  private nextCheckAt = 0;

  constructor(
    public turns: Turns,
    private readonly of: TurnsOfHost,
  ) {}

  isHeld(): boolean {
    return this.turns.held.length > 0;
  }

  isIdle(): boolean {
    return this.turns.held.length === 0 && this.turns.queue.length === 0;
  }

  private isHolder({ runId }: OperationRef): boolean {
    return this.turns.held.some((turn) => turn.operation.runId === runId);
  }

  isNews(operation: OperationRef): boolean {
    return isNews(this.turns, operation);
  }

  /** Holds a turn, or waits for one. */
  knows(workflowId: string): boolean {
    return [...this.turns.held, ...this.turns.queue].some(({ operation }) => operation.workflowId === workflowId);
  }

  /** When a holder is looked after next, epoch ms. */
  nextCheck(): number {
    return this.nextCheckAt;
  }

  apply(event: TurnEvent): void {
    const { turns, commands } = reduceTurns(this.turns, event, Date.now());
    if (!this.isHeld() && turns.held.length > 0) this.nextCheckAt = Date.now() + HOLDER_CHECK_MS;
    this.turns = turns;
    for (const command of commands) this.of.inBackground(this.send(command));
  }

  /** Looks at the runs that hold turns, when that is due: closed → freed; past the deadline → terminated, then freed. */
  async checkHolders(): Promise<void> {
    if (!this.isHeld() || Date.now() < this.nextCheckAt) return;
    this.nextCheckAt = Date.now() + HOLDER_CHECK_MS;
    for (const { operation, grantedAtMs } of this.turns.held) {
      const heldMs = Date.now() - grantedAtMs;
      if (heldMs < HOLDER_CHECK_MS) continue;
      try {
        const status = await control.describeHolder(operation);
        if (status === 'running' && heldMs < this.deadlineMs()) continue;
        if (status === 'running') await control.terminateHolder(operation, 'its turn passed its deadline');
      } catch (error) {
        // The host must outlive a server or a control worker that was away for long; the next check tells.
        log.warn('a holder could not be looked at', { ...operation, error: String(error) });
        continue;
      }
      this.gone(operation);
    }
  }

  states(): TurnState[] {
    return this.turns.held.map((turn) => ({
      operation: turn.operation,
      goal: turn.goal,
      requestedBy: turn.requestedBy,
      devices: turn.held,
      epochs: turn.epochs,
      grantedAt: new Date(turn.grantedAtMs).toISOString(),
      deadline: new Date(turn.grantedAtMs + this.deadlineMs()).toISOString(),
    }));
  }

  private async send(command: TurnCommand): Promise<void> {
    const operation = getExternalWorkflowHandle(command.operation.workflowId, command.operation.runId);
    try {
      switch (command.kind) {
        case 'grant':
          await operation.signal(signals.turnGranted, {
            runId: command.operation.runId,
            epochs: command.epochs,
            intents: this.of.intents(),
          });
          break;
        case 'supersede':
          await operation.signal(signals.superseded, { by: command.by });
          break;
        case 'announce-successor':
          await operation.signal(signals.successorWaiting, { waits: command.waits });
      }
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.gone(command.operation);
    }
  }

  /** Its turn is freed, and the agent drops what it left: effects that still run, gates that it closed. */
  private gone(operation: OperationRef): void {
    if (this.isHolder(operation)) this.of.inBackground(this.abandon(operation));
    log.warn('an operation ended without releasing its turn', { ...operation });
    this.apply({ kind: 'release', operation });
    this.of.onGone(operation);
  }

  private async abandon(operation: OperationRef): Promise<void> {
    try {
      await agentGlances(this.of.host).abandonOperation.executeWithOptions(
        { summary: `drop what ${operation.workflowId} left` },
        [operation],
      );
    } catch (error) {
      // An agent that is away has lost all that with its memory; one that hangs ends it at the next turn's barrier.
      log.info('the agent could not be told of an ended operation', { ...operation, error: String(error) });
    }
  }

  /** Every attempt of a load, an unload and a move, and as much again to put back what was (M19). */
  private deadlineMs(): number {
    const policy = this.of.policy();
    if (policy === null) return TURN_DEADLINE_MS;
    const { models, services, embedder, maxLoadRetries } = policy;
    const longest = Math.max(0, ...models.map((model) => model.loadTimeoutSeconds + model.unloadTimeoutSeconds));
    // A phase stops and starts all its services once, and puts the former ones back after a failure.
    const phase = services.reduce((sum, one) => sum + one.startTimeoutSeconds + one.stopTimeoutSeconds, 0);
    const attempts = (maxLoadRetries + 2) * 2 * (longest + embedder.moveTimeoutSeconds);
    return Math.max(TURN_DEADLINE_MS, (attempts + 2 * phase) * 1000);
  }
}
