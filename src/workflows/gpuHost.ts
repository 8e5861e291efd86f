/**
 * The entity workflow of one host: who may change which devices, what is wanted, and when to look again.
 * Handlers are thin; the decisions are in domain/turns, domain/intents and the planner.
 */

import {
  allHandlersFinished,
  condition,
  getExternalWorkflowHandle,
  log,
  makeContinueAsNewFunc,
  setCurrentDetails,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import {
  type AgentRegistration,
  EARLIER_INTENTS_MEMO,
  type Edge,
  type HostState,
  PUBLISHED_QUEUE,
  type RefusedAgent,
  STATE_MEMO,
  type SwitchMode,
  type WaitingLease,
} from '../contracts/messages.js';
import { isModel, SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import type { AgentView, Epochs, Intents, OperationOutcome, OperationRef } from '../contracts/operation.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation } from '../contracts/residency.js';
import { checkGoal } from '../domain/checkGoal.js';
import { describeHost, type RecentOperation } from '../domain/describeHost.js';
import { afterEdge, afterOperation, intentsAtFirst, noIntents } from '../domain/intents.js';
import { isOfMemory, joined, left, mayMakeRoom } from '../domain/leaseQueue.js';
import { ollamaTrouble } from '../domain/ollamaTrouble.js';
import { isHeldBackByAgent } from '../domain/restartPolicy.js';
import { noTurns, type Turns } from '../domain/turns.js';
import { HostTurns } from './hostTurns.js';
import { modeTransition } from './modeTransition.js';
import { agentGlances, control } from './proxies.js';
import { needsRestoring, noReconciliations, Reconciliations, type Reconciling } from './reconciliations.js';
import * as signals from './signals.js';
import { startOperation } from './starts.js';
import { isNotFound } from './turn.js';

/** An agent that does not answer a look that is due is asked again after so long. */
const LOOK_AGAIN_MS = 30_000;
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
  reconciling: Reconciling;
  /** A look that was due, or that the agent did not answer. */
  mustLook: boolean;
  /** What ended last, for people. */
  recent: RecentOperation[];
  leases: WaitingLease[];
}

export interface GpuHostInput {
  host: string;
  carried?: Carried;
}

export async function gpuHost(input: GpuHostInput): Promise<void> {
  const shell = new Host(input);
  await shell.live();
  // The state is read there also before the new run's first task.
  const goOn = makeContinueAsNewFunc<typeof gpuHost>({ memo: { [STATE_MEMO]: shell.state() } });
  return goOn({ host: input.host, carried: shell.carried() });
}

class Host {
  private readonly host: string;
  private readonly turns: HostTurns;
  private readonly reconciliations: Reconciliations;
  private intents: Intents;
  private policy: HostPolicy | null;
  private agent: AgentRegistration | null;
  private refusedAgent: RefusedAgent | null = null;
  /** The agent should be asked what is there: at start, when it comes online, after edges during a turn. */
  private mustLook: boolean;
  /** Something changed what is due next. */
  private nudged = false;
  private sending = 0;
  private recent: RecentOperation[];
  private leases: WaitingLease[];
  private shownMode: string | null = null;
  private published = '';
  private modeStarts: Promise<void> = Promise.resolve();
  private nextLookAt = 0;
  /** When the waiting leases were last told that memory fell, epoch ms; a new run may tell them once more. */
  private toldOfMemoryAt = 0;

  constructor({ host, carried }: GpuHostInput) {
    this.host = host;
    this.turns = new HostTurns(carried?.turns ?? noTurns(), {
      host,
      intents: () => this.intents,
      policy: () => this.policy,
      inBackground: (work) => this.inBackground(work),
      onGone: (operation) => {
        if (this.reconciliations.isUnderWay(operation)) this.reconciled(false);
        this.mustLook = true;
        this.nudged = true;
      },
    });
    this.reconciliations = new Reconciliations(host, carried?.reconciling ?? noReconciliations());
    this.intents = carried?.intents ?? intentsOfEarlierChain() ?? noIntents();
    this.policy = carried?.policy ?? null;
    this.agent = carried?.agent ?? null;
    this.mustLook = carried?.mustLook ?? true;
    this.recent = carried?.recent ?? [];
    this.leases = carried?.leases ?? [];
    this.nextLookAt = Date.now() + this.lookPeriodMs();
    this.listen();
  }

  carried(): Carried {
    const { intents, policy, agent, recent, mustLook, leases } = this;
    const { turns } = this.turns;
    return { turns, intents, policy, agent, reconciling: this.reconciliations.state, mustLook, recent, leases };
  }

  /** Returns when the history is long enough and nothing is under way here. */
  async live(): Promise<void> {
    this.show();
    while (!workflowInfo().continueAsNewSuggested) {
      this.nudged = false;
      const summary = this.turns.isHeld() ? 'until it looks after the holder' : 'until it looks at the host';
      await condition(() => this.nudged || this.isLookDue(), this.msUntilNextDue(), { summary });
      await this.turns.checkHolders();
      if (this.isLookDue()) await this.look();
      this.show();
    }
    await condition(() => this.sending === 0 && allHandlersFinished());
  }

  private listen(): void {
    setHandler(signals.requestTurn, (request) => {
      const isUnknown = this.policy !== null && checkGoal(request.goal, this.policy) !== null;
      this.turnEvent({ kind: 'request', request, isUnknown });
    });
    setHandler(signals.refuseEpoch, ({ operation, highest }) =>
      this.turnEvent({ kind: 'refuse-epoch', operation, highest }),
    );
    setHandler(signals.releaseTurn, ({ operation, outcome }) => {
      if (this.turns.isNews(operation)) {
        this.intents = afterOperation(this.intents, outcome);
        this.remember(operation, outcome);
        if (outcome.steps.some((step) => step.acted)) this.tellLeases();
      }
      if (this.reconciliations.isUnderWay(operation)) {
        this.reconciled(outcome.status === 'done' || isHeldBackByAgent(outcome));
      }
      this.turnEvent({ kind: 'release', operation });
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
    setHandler(signals.leaseWaits, (lease) => {
      const leases = joined(this.leases, lease);
      // Each says so in every round: to tell all of them then would wake them for ever.
      if (leases === this.leases) return;
      this.leases = leases;
      this.tellLeases();
    });
    setHandler(signals.leaseLeaves, ({ id }) => {
      this.leases = left(this.leases, id);
      // It may have given something back.
      this.mustLook = true;
      this.nudged = true;
      this.tellLeases();
    });
    setHandler(signals.edge, (edge) => this.onEdge(edge));
    setHandler(signals.announceAgent, (registration) => this.inBackground(this.takeAnnounced(registration)));
  }

  private remember({ workflowId: id }: OperationRef, { status, summary }: OperationOutcome): void {
    const at = new Date().toISOString();
    this.recent = [{ at, workflowId: id, what: `${status}: ${summary}` }, ...this.recent].slice(0, REMEMBERED);
  }

  private turnEvent(event: Parameters<HostTurns['apply']>[0]): void {
    this.turns.apply(event);
    this.nudged = true;
    this.show();
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
    if (firstLook) this.intents = intentsAtFirst(this.intents, view);
    this.takeDriverState(view.observation);
    this.takeDevices(view.observation, firstLook ? view.epochs : {});
    this.reconciliations.forgetSilent((id) => this.turns.knows(id));
    this.reconcileIfNeeded(view.observation, firstLook ? 'the host came up' : 'a look at the host');
    for (const tenant of view.observation.tenants) {
      if (tenant.kind === 'model' && tenant.configured && tenant.state === 'resident') {
        this.inBackground(control.ensureIdleTimer(this.host, tenant.id));
      }
    }
  }

  private takeDevices(observed: HostObservation, highest: Epochs): void {
    this.turnEvent({ kind: 'devices', devices: observed.devices.map((device) => device.id), highest });
  }

  private takeDriverState(observed: HostObservation): void {
    this.intents = { ...this.intents, degradedReason: ollamaTrouble(observed.drivers) };
  }

  private onEdge(edge: Edge): void {
    this.intents = afterEdge(this.intents, edge);
    // A GPU may show itself after the first look; before it, nobody may be granted anything.
    if (this.policy !== null) this.takeDevices(edge.observation, {});
    if (edge.kind === 'tenant-appeared' && isModel(edge.subject))
      this.inBackground(control.ensureIdleTimer(this.host, edge.subject));
    if (mayMakeRoom(edge, Date.now() - this.toldOfMemoryAt)) {
      if (isOfMemory(edge.kind)) this.toldOfMemoryAt = Date.now();
      this.tellLeases();
    }
    if (edge.kind === 'driver-away') this.nextLookAt = Date.now() + this.lookPeriodMs();
    if (!this.turns.isIdle()) this.mustLook = true;
    else this.reconcileIfNeeded(edge.observation, `${edge.kind} ${edge.subject}`);
    this.nudged = true;
    this.show();
  }

  private reconcileIfNeeded(observed: HostObservation, reason: string): void {
    if (this.policy === null) return;
    if (!this.turns.isIdle()) {
      // An operation has come meanwhile: the host looks again once it has ended.
      this.mustLook ||= needsRestoring(observed, this.intents, this.policy, reason);
      return;
    }
    const started = this.reconciliations.startIfNeeded(observed, this.intents, this.policy, reason);
    if (started !== null) this.inBackground(started);
  }

  private reconciled(well: boolean): void {
    const notBefore = this.reconciliations.ended(well);
    if (notBefore !== null) this.nextLookAt = Math.min(this.nextLookAt, notBefore);
    this.nudged = true;
  }

  /** What changed may have made room: each looks again, the first of the line first. */
  private tellLeases(): void {
    for (const [index, { id }] of this.leases.entries()) {
      const lease = getExternalWorkflowHandle(workflowId.lease(this.host, id));
      this.inBackground(
        lease.signal(signals.leasePosition, { position: index + 1 }).catch((error: unknown) => {
          if (!isNotFound(error)) throw error;
          this.leases = left(this.leases, id);
        }),
      );
    }
  }

  private async startMode({ mode, request = uuid4(), requestedBy }: SwitchMode): Promise<void> {
    if (!REQUEST_NAME.test(request)) {
      log.warn('a switchMode signal is not heard: its request is no name of at most 200 letters', { mode });
      return;
    }
    await startOperation(modeTransition, workflowId.modeTransition(this.host, request), {
      host: this.host,
      goal: { kind: 'mode', mode },
      requestedBy: requestedBy ?? 'a switchMode signal',
      priority: 50,
    });
  }

  private async recognise(): Promise<void> {
    const registration = await agentGlances(this.host)
      .identifyAgent()
      .catch(() => null);
    this.agent ??= registration;
  }

  /** Two agents for one host: the second is refused while the first answers for itself. */
  private async takeAnnounced(registration: AgentRegistration): Promise<void> {
    const holder = await this.otherHolder(registration);
    if (holder !== null) {
      const reason = `the agent ${holder.instance} (${holder.lockDomain}) answers for this host`;
      this.refusedAgent = { instance: registration.instance, reason };
    } else {
      this.refusedAgent = null;
      this.agent = registration;
      this.mustLook = true;
    }
    this.show();
  }

  private async otherHolder({ instance, lockDomain }: AgentRegistration): Promise<AgentRegistration | null> {
    const known = this.agent;
    // In one folder there is one agent at a time: it is the successor of the known one.
    if (known === null || known.instance === instance || known.lockDomain === lockDomain) return null;
    const answer = await agentGlances(this.host)
      .identifyAgent()
      .catch(() => null);
    return answer === null || answer.instance === instance ? null : answer;
  }

  private lookPeriodMs(): number {
    if (this.policy === null) return 5_000;
    const { degradedRetrySeconds, reconcileSeconds } = this.policy;
    return (this.intents.degradedReason === null ? reconcileSeconds : degradedRetrySeconds) * 1000;
  }

  /** While a turn is held its operation looks; the host looks afterwards. */
  private isLookDue(): boolean {
    return !this.turns.isHeld() && (this.mustLook || Date.now() >= this.nextLookAt);
  }

  private msUntilNextDue(): number {
    const due = this.turns.isHeld() ? this.turns.nextCheck() : this.nextLookAt;
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
    setCurrentDetails(describeHost(this.intents, this.turns.turns, this.recent));
    this.publish();
    // An event of the history each time.
    if (this.intents.mode === this.shownMode) return;
    this.shownMode = this.intents.mode;
    upsertSearchAttributes({ [SEARCH_ATTRIBUTES.mode]: [this.intents.mode] });
  }

  state(): HostState {
    const { host, agent, refusedAgent, intents } = this;
    const { queue, epochs } = this.turns.turns;
    return {
      host,
      agent,
      refusedAgent,
      intents,
      turns: this.turns.states(),
      leases: this.leases.slice(0, PUBLISHED_QUEUE),
      queue: queue.slice(0, PUBLISHED_QUEUE),
      epochs,
    };
  }

  private publish(): void {
    const state = this.state();
    const published = JSON.stringify(state);
    if (published === this.published) return;
    this.published = published;
    upsertMemo({ [STATE_MEMO]: state });
  }
}

/** Null at the first start ever. */
const intentsOfEarlierChain = (): Intents | null =>
  (workflowInfo().memo?.[EARLIER_INTENTS_MEMO] as Intents | undefined) ?? null;
