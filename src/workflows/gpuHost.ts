/**
 * The entity workflow of one host: who may change which devices, what is wanted, and when to look again.
 * Handlers are thin; the decisions are in domain/turns, domain/intents and the planner.
 */

import { WorkflowExecutionAlreadyStartedError, WorkflowIdReusePolicy } from '@temporalio/common';
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  log,
  ParentClosePolicy,
  setCurrentDetails,
  setHandler,
  startChild,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { AgentRegistration, Edge, SwitchMode } from '../contracts/messages.js';
import { SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import type {
  AgentView,
  Epochs,
  Intents,
  OperationInput,
  OperationOutcome,
  OperationRef,
} from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation } from '../contracts/residency.js';
import { describeHost, type RecentOperation } from '../domain/describeHost.js';
import { afterEdge, afterOperation, noIntents, wantedAtFirst } from '../domain/intents.js';
import { planResidency } from '../domain/planResidency.js';
import { resolveTarget } from '../domain/resolveTarget.js';
import { noTurns, reduceTurns, type TurnCommand, type TurnEvent, type Turns } from '../domain/turns.js';
import { modeTransition } from './modeTransition.js';
import { agentGlances, control } from './proxies.js';
import { reconciliation } from './reconciliation.js';
import * as signals from './signals.js';
import { isNotFound } from './turn.js';

/** A holder that has not released by then is looked at; then every as many milliseconds. */
const HOLDER_CHECK_MS = 5_000;
/** An operation that holds a turn longer than this, and than all its attempts may take, is ended (law 8). */
const TURN_DEADLINE_MS = 15 * 60_000;
/** An agent that does not answer a look that is due is asked again after so long. */
const LOOK_AGAIN_MS = 30_000;
/** After a reconciliation that failed, the next waits this long, doubled up to five minutes (pain 2). */
const RECONCILE_PAUSE_MS = 10_000;
const RECONCILE_PAUSE_MAX_MS = 300_000;
/** It becomes part of a workflow id: one that the server refuses would stop every further task of the host. */
const REQUEST_NAME = /^[\w.:@/-]{1,200}$/;

/** Operations that the page of the host names after they have ended. */
const REMEMBERED = 8;

/** What travels over continue-as-new: plain data only. */
export interface Carried {
  turns: Turns;
  intents: Intents;
  policy: HostPolicy | null;
  agent: AgentRegistration | null;
  reconciliations: number;
  reconcileFailures: number;
  /** The id of the reconciliation under way. */
  reconciling: string | null;
  /** A look that was due, or that the agent did not answer. Absent in what older versions carried. */
  mustLook?: boolean;
  /** What ended last, for people; absent in what older versions carried. */
  recent?: RecentOperation[];
}

export interface GpuHostInput {
  host: string;
  carried?: Carried;
}

export async function gpuHost(input: GpuHostInput): Promise<void> {
  const shell = new Host(input);
  await shell.live();
  return continueAsNew<typeof gpuHost>({ host: input.host, carried: shell.carried() });
}

class Host {
  private readonly host: string;
  private turns: Turns;
  private intents: Intents;
  private policy: HostPolicy | null;
  private agent: AgentRegistration | null;
  private reconciliations: number;
  private reconcileFailures: number;
  /** The agent should be asked what is there: at start, when it comes online, after edges during a turn. */
  private mustLook = true;
  /** Something changed what is due next. */
  private nudged = false;
  private reconciling: string | null = null;
  private sending = 0;
  private recent: RecentOperation[];
  private shownMode: string | null = null;
  private modeStarts: Promise<void> = Promise.resolve();
  private nextLookAt = 0;
  private nextHolderCheckAt = 0;
  private reconcileNotBefore = 0;

  constructor({ host, carried }: GpuHostInput) {
    this.host = host;
    this.turns = carried?.turns ?? noTurns();
    this.intents = carried?.intents ?? noIntents();
    this.policy = carried?.policy ?? null;
    this.agent = carried?.agent ?? null;
    this.reconciliations = carried?.reconciliations ?? 0;
    this.reconcileFailures = carried?.reconcileFailures ?? 0;
    this.reconciling = carried?.reconciling ?? null;
    this.mustLook = carried === undefined || carried.mustLook === true;
    this.recent = carried?.recent ?? [];
    this.nextLookAt = Date.now() + this.lookPeriodMs();
    this.listen();
  }

  carried(): Carried {
    const { turns, intents, policy, agent, recent } = this;
    const { reconciliations, reconcileFailures, reconciling, mustLook } = this;
    return { turns, intents, policy, agent, reconciliations, reconcileFailures, reconciling, mustLook, recent };
  }

  /** Returns when the history is long enough and nothing is under way here. */
  async live(): Promise<void> {
    this.show();
    while (!workflowInfo().continueAsNewSuggested) {
      this.nudged = false;
      const summary = this.turns.held.length > 0 ? 'until it looks after the holder' : 'until it looks at the host';
      await condition(() => this.nudged || this.isLookDue(), this.msUntilNextDue(), { summary });
      if (this.turns.held.length > 0 && Date.now() >= this.nextHolderCheckAt) await this.checkHolders();
      if (this.isLookDue()) await this.look();
      this.show();
    }
    await condition(() => this.sending === 0 && allHandlersFinished());
  }

  private listen(): void {
    setHandler(signals.requestTurn, (request) => this.apply({ kind: 'request', request }));
    setHandler(signals.narrowTurn, ({ operation, devices }) => this.apply({ kind: 'narrow', operation, devices }));
    setHandler(signals.refuseEpoch, ({ operation, highest }) =>
      this.apply({ kind: 'refuse-epoch', operation, highest }),
    );
    setHandler(signals.releaseTurn, ({ operation, outcome }) => {
      const held = this.turns.held.some((turn) => turn.operation.runId === operation.runId);
      if (held) this.intents = afterOperation(this.intents, outcome);
      if (held) this.remember(operation, outcome);
      if (operation.workflowId === this.reconciling) this.reconciliationEnded(outcome.status === 'done');
      this.apply({ kind: 'release', operation });
      this.show();
    });
    setHandler(signals.switchMode, (request) => {
      // One after the other, so that the last one is started last (M11).
      const started = this.modeStarts.then(() => this.startMode(request));
      this.modeStarts = started.catch(() => undefined);
      this.inBackground(started);
    });
    setHandler(signals.agentOnline, () => {
      this.mustLook = true;
    });
    setHandler(signals.edge, (edge) => this.onEdge(edge));
    setHandler(signals.registerAgent, (registration) => this.register(registration));
    setHandler(signals.hostState, () => ({
      host: this.host,
      agent: this.agent,
      intents: this.intents,
      turns: this.turns.held.map((turn) => ({
        operation: turn.operation,
        goal: turn.goal,
        requestedBy: turn.requestedBy,
        devices: turn.held,
        epochs: turn.epochs,
        grantedAt: new Date(turn.grantedAtMs).toISOString(),
        deadline: new Date(turn.grantedAtMs + this.turnDeadlineMs()).toISOString(),
      })),
      queue: this.turns.queue,
      epochs: this.turns.epochs,
    }));
  }

  private remember({ workflowId: id }: OperationRef, { status, summary }: OperationOutcome): void {
    const at = new Date().toISOString();
    this.recent = [{ at, workflowId: id, what: `${status}: ${summary}` }, ...this.recent].slice(0, REMEMBERED);
  }

  private apply(event: TurnEvent): void {
    const { turns, commands } = reduceTurns(this.turns, event, Date.now());
    if (this.turns.held.length === 0 && turns.held.length > 0) this.nextHolderCheckAt = Date.now() + HOLDER_CHECK_MS;
    this.turns = turns;
    this.nudged = true;
    for (const command of commands) this.inBackground(this.send(command));
  }

  private async send(command: TurnCommand): Promise<void> {
    const operation = getExternalWorkflowHandle(command.operation.workflowId, command.operation.runId);
    try {
      switch (command.kind) {
        case 'grant':
          await operation.signal(signals.turnGranted, {
            runId: command.operation.runId,
            epochs: command.epochs,
            intents: this.intents,
          });
          break;
        case 'supersede':
          await operation.signal(signals.superseded, { by: command.by });
          break;
        case 'announce-successor':
          await operation.signal(signals.successorWaiting);
      }
    } catch (error) {
      if (!isNotFound(error)) throw error;
      this.holderGone(command.operation);
    }
  }

  /** A holder or waiter ended without a release: its turn is freed, and what it left behind is looked at. */
  private holderGone(operation: OperationRef): void {
    log.warn('an operation ended without releasing its turn', { ...operation });
    if (operation.workflowId === this.reconciling) this.reconciliationEnded(false);
    this.apply({ kind: 'release', operation });
    this.mustLook = true;
  }

  private async checkHolders(): Promise<void> {
    this.nextHolderCheckAt = Date.now() + HOLDER_CHECK_MS;
    for (const { operation, grantedAtMs } of this.turns.held) {
      if (Date.now() - grantedAtMs < HOLDER_CHECK_MS) continue;
      try {
        const status = await control.describeHolder(operation);
        if (status === 'running' && Date.now() - grantedAtMs < this.turnDeadlineMs()) continue;
        if (status === 'running') await control.terminateHolder(operation, 'its turn passed its deadline');
      } catch (error) {
        // The host must outlive a server or a control worker that was away for long; the next check tells.
        log.warn('a holder could not be looked at', { ...operation, error: String(error) });
        continue;
      }
      this.holderGone(operation);
    }
  }

  /** Every attempt of a load, an unload and a move, and as much again to put back what was (M19). */
  private turnDeadlineMs(): number {
    if (this.policy === null) return TURN_DEADLINE_MS;
    const { models, embedder, maxLoadRetries } = this.policy;
    const longest = Math.max(0, ...models.map((model) => model.loadTimeoutSeconds + model.unloadTimeoutSeconds));
    return Math.max(TURN_DEADLINE_MS, (maxLoadRetries + 2) * 2 * (longest + embedder.moveTimeoutSeconds) * 1000);
  }

  /** Asks the agent what is there, and starts a reconciliation if what is wanted is not what is. */
  private async look(): Promise<void> {
    this.mustLook = false;
    this.nextLookAt = Date.now() + this.lookPeriodMs();
    let view: AgentView;
    try {
      view = await agentGlances(this.host).describeAgent.executeWithOptions({ summary: 'what is on the host' }, []);
    } catch (error) {
      log.info('the agent does not answer', { error: String(error) });
      this.nextLookAt = Math.min(this.nextLookAt, Date.now() + LOOK_AGAIN_MS);
      return;
    }
    // A host that was terminated: its successor must know the agent, or a second one would be taken for the first.
    if (this.agent === null) await this.recognise();
    const firstLook = this.policy === null;
    this.policy = view.policy;
    if (firstLook) this.intents = { ...this.intents, mode: view.mode, wanted: wantedAtFirst(view.observation) };
    this.takeDriverState(view.observation);
    this.takeDevices(view.observation, firstLook ? view.epochs : {});
    this.reconcileIfNeeded(view.observation, firstLook ? 'the host came up' : 'a look at the host');
    for (const tenant of view.observation.tenants) {
      if (tenant.kind === 'model' && tenant.configured && tenant.state === 'resident') {
        this.inBackground(control.ensureIdleTimer(this.host, tenant.id));
      }
    }
  }

  private takeDevices(observed: HostObservation, highest: Epochs): void {
    this.apply({ kind: 'devices', devices: observed.devices.map((device) => device.id), highest });
  }

  private takeDriverState(observed: HostObservation): void {
    const ollama = observed.drivers.find((driver) => driver.id === 'ollama');
    const degradedReason = ollama && !ollama.available ? (ollama.reason ?? 'Ollama does not answer') : null;
    this.intents = { ...this.intents, degradedReason };
  }

  private onEdge(edge: Edge): void {
    this.intents = afterEdge(this.intents, edge);
    // A GPU may show itself after the first look; before it, nobody may be granted anything.
    if (this.policy !== null) this.takeDevices(edge.observation, {});
    if (edge.kind === 'tenant-appeared') this.inBackground(control.ensureIdleTimer(this.host, edge.subject));
    if (edge.kind === 'driver-away') this.nextLookAt = Date.now() + this.lookPeriodMs();
    if (this.turns.held.length > 0 || this.turns.queue.length > 0) this.mustLook = true;
    else this.reconcileIfNeeded(edge.observation, `${edge.kind} ${edge.subject}`);
    this.nudged = true;
    this.show();
  }

  private reconcileIfNeeded(observed: HostObservation, reason: string): void {
    const busy = this.turns.held.length > 0 || this.turns.queue.length > 0 || this.reconciling !== null;
    if (this.policy === null || busy || Date.now() < this.reconcileNotBefore) return;
    const target = resolveTarget({ kind: 'reconcile', reason }, this.intents, this.policy, observed);
    const plan = planResidency(observed, target, this.policy);
    if (plan.kind === 'refusal' || plan.steps.length === 0) return;
    this.reconciliations += 1;
    const run = workflowInfo().firstExecutionRunId.slice(0, 8);
    const id = workflowId.reconciliation(this.host, `${run}-${this.reconciliations}`);
    this.reconciling = id;
    this.inBackground(
      this.start(reconciliation, id, {
        host: this.host,
        goal: { kind: 'reconcile', reason },
        requestedBy: 'the host',
        priority: 10,
      }),
    );
  }

  private reconciliationEnded(well: boolean): void {
    this.reconciling = null;
    this.reconcileFailures = well ? 0 : this.reconcileFailures + 1;
    if (well) return;
    const pause = Math.min(RECONCILE_PAUSE_MS * 2 ** (this.reconcileFailures - 1), RECONCILE_PAUSE_MAX_MS);
    this.reconcileNotBefore = Date.now() + pause;
    this.nextLookAt = Math.min(this.nextLookAt, this.reconcileNotBefore);
    this.nudged = true;
  }

  private async startMode({ mode, request, requestedBy }: SwitchMode): Promise<void> {
    if (!REQUEST_NAME.test(request)) {
      log.warn('a switchMode signal is not heard: its request is no name of at most 200 letters', { mode });
      return;
    }
    await this.start(modeTransition, workflowId.modeTransition(this.host, request), {
      host: this.host,
      goal: { kind: 'mode', mode },
      requestedBy: requestedBy ?? 'a switchMode signal',
      priority: 50,
    });
  }

  /** Starts an operation that outlives this run; the same id twice is one request. */
  private async start(workflow: typeof modeTransition, id: string, input: OperationInput): Promise<void> {
    try {
      await startChild(workflow, {
        workflowId: id,
        args: [input],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        searchAttributes: { [SEARCH_ATTRIBUTES.host]: [this.host] },
        staticSummary: `for ${input.requestedBy}`,
        workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }

  private async recognise(): Promise<void> {
    const registration = await agentGlances(this.host)
      .identifyAgent()
      .catch(() => null);
    this.agent ??= registration;
  }

  /** Two agents for one host: the second is refused while the first answers for itself. */
  private async register(registration: AgentRegistration): Promise<{ accepted: boolean; reason: string | null }> {
    const known = this.agent;
    if (known !== null && known.instance !== registration.instance && known.lockDomain !== registration.lockDomain) {
      const answer = await agentGlances(this.host)
        .identifyAgent()
        .catch(() => null);
      if (answer !== null && answer.instance !== registration.instance) {
        return { accepted: false, reason: `the agent ${answer.instance} (${answer.lockDomain}) answers for this host` };
      }
    }
    this.agent = registration;
    this.mustLook = true;
    return { accepted: true, reason: null };
  }

  private lookPeriodMs(): number {
    if (this.policy === null) return 5_000;
    const { degradedRetrySeconds, reconcileSeconds } = this.policy;
    return (this.intents.degradedReason === null ? reconcileSeconds : degradedRetrySeconds) * 1000;
  }

  /** While a turn is held its operation looks; the host looks afterwards. */
  private isLookDue(): boolean {
    return this.turns.held.length === 0 && (this.mustLook || Date.now() >= this.nextLookAt);
  }

  private msUntilNextDue(): number {
    const due = this.turns.held.length > 0 ? this.nextHolderCheckAt : this.nextLookAt;
    return Math.max(due - Date.now(), 1);
  }

  private inBackground(work: Promise<void>): void {
    this.sending += 1;
    void work
      .catch((error: unknown) => log.error('a message of the host failed', { error: String(error) }))
      .finally(() => {
        this.sending -= 1;
      });
  }

  private show(): void {
    setCurrentDetails(describeHost(this.intents, this.turns, this.recent));
    // An event of the history each time.
    if (this.intents.mode === this.shownMode) return;
    this.shownMode = this.intents.mode;
    upsertSearchAttributes({ [SEARCH_ATTRIBUTES.mode]: [this.intents.mode] });
  }
}
