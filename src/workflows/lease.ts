/** A lease (P7): waits for room, holds it for its time, and gives it back; `lease/<host>/<id>`. */
import {
  ApplicationFailure,
  CancellationScope,
  ChildWorkflowFailure,
  condition,
  executeChild,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  makeContinueAsNewFunc,
  setCurrentDetails,
  setHandler,
  sleep,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { LeaseRequest, LeaseState, Reservation } from '../contracts/lease.js';
import { STATE_MEMO } from '../contracts/messages.js';
import { reservationTenant, SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import { leaseWords, queuedLease } from '../domain/lease.js';
import { cancelledWhen } from './cancelledWhen.js';
import { failureOf } from './failures.js';
import { leaseOperation } from './leaseOperation.js';
import { agentReads } from './proxies.js';
import * as signals from './signals.js';
import { isNotFound } from './turn.js';

export interface LeaseInput {
  host: string;
  request: LeaseRequest;
  /** Of a run that goes on. */
  carried?: { state: LeaseState; operations: number };
}

/** Without news of its host a lease that waits looks again so often. */
const LOOK_AGAIN = '60s';
/** An agent that was away for as long as a call waits is asked again after this. */
const ASK_AGAIN = '5s';
/** A grace is 10 s. */
const REVOKED_LOOK_MS = 20_000;

export async function lease(input: LeaseInput): Promise<LeaseState> {
  const one = new Lease(input);
  try {
    if (await one.untilHeld()) await one.untilOver();
  } catch (error) {
    if (isCancellation(error)) await CancellationScope.nonCancellable(() => one.giveBack('cancelled'));
    throw error;
  }
  if (one.state.state === 'ended') return one.state;
  // The state is read there also before the new run's first task.
  return makeContinueAsNewFunc<typeof lease>({ memo: { [STATE_MEMO]: one.state } })({
    ...input,
    carried: one.carried(),
  });
}

class Lease {
  state: LeaseState;
  private released = false;
  /** Told since the last request for room: a grant that is not read yet may be gone already. */
  private revoked = false;
  private news = false;
  private operations: number;
  private operationEndedAtMs = Date.now();
  /** The host has said why it has to wait, so it can be had some time. */
  private canBeHad: boolean;
  private published = '';
  private readonly renewals: { renewal: string; ttlSeconds: number }[] = [];

  private readonly request: LeaseRequest;

  constructor({ host, request, carried }: LeaseInput) {
    this.request = request;
    this.state = carried?.state ?? queuedLease(host, request);
    this.operations = carried?.operations ?? 0;
    this.canBeHad = carried !== undefined;
    setHandler(signals.releaseLease, () => {
      this.released = true;
    });
    setHandler(signals.leasePosition, ({ position }) => {
      if (this.state.state !== 'queued') return;
      this.state = { ...this.state, position };
      this.news = true;
      this.show();
    });
    setHandler(signals.leaseRevoked, () => {
      this.revoked = true;
      if (this.state.state === 'held') this.state = { ...this.state, state: 'revoked' };
      this.news = true;
      this.show();
    });
    setHandler(signals.renewLease, (renewal) => {
      if (this.state.state !== 'held' || !(renewal.ttlSeconds > 0)) return;
      this.renewals.push(renewal);
      this.news = true;
    });
  }

  carried() {
    return { state: this.state, operations: this.operations };
  }

  /** @returns false when it ended before, or has to go on in a new run */
  async untilHeld(): Promise<boolean> {
    this.show();
    if (this.state.state !== 'queued') return true;
    for (;;) {
      // Also of a host that was begun anew and knows nothing of its line.
      await this.waitInLine();
      this.news = false;
      const outcome = await this.askForRoom();
      if (this.state.state !== 'queued') break;
      const { reason, remedy } = whyNot(outcome);
      // What can never be had is not waited for (pain 2). Later it is a GPU that is not seen for a while (law 1).
      const hopeless = !this.canBeHad && isHopeless(outcome);
      this.canBeHad ||= outcome?.status === 'refused' || outcome?.status === 'done';
      this.state = { ...this.state, reason, remedy };
      if (hopeless || this.released) return this.giveBack(hopeless ? reason : WITHDRAWN);
      this.show();
      if (workflowInfo().continueAsNewSuggested) return false;
      await condition(() => this.released || this.news, LOOK_AGAIN, { summary: 'until there may be room' });
      if (this.released) return this.giveBack(WITHDRAWN);
    }
    await this.leaveLine();
    return true;
  }

  /** Returns when it has ended, or has to go on in a new run. */
  async untilOver(): Promise<void> {
    for (;;) {
      this.news = false;
      if (this.state.state !== 'held' && (await this.read()) === null) {
        await this.ended('something of higher priority took its memory');
        return;
      }
      const renewal = this.renewals.shift();
      if (renewal !== undefined) {
        if (await this.renew(renewal)) continue;
        await this.ended('expired');
        return;
      }
      this.show();
      // A new run would know nothing of a release that has come.
      if (workflowInfo().continueAsNewSuggested && !this.released) return;
      const leftMs = Math.max(1, this.endsAtMs() - Date.now());
      // One that is revoked ends soon, and nobody may say so: what asked for its memory may be gone itself.
      const lookMs = this.state.state === 'revoked' ? Math.min(leftMs, REVOKED_LOOK_MS) : leftMs;
      await condition(() => this.released || this.news, lookMs, { summary: 'until it expires' });
      const expired = Date.now() >= this.endsAtMs();
      // A renewal that came in time is heard, also when both are seen together.
      if (!this.released && (!expired || this.renewals.length > 0)) continue;
      await this.giveBack(this.released ? 'released' : 'expired');
      return;
    }
  }

  /** It is held after this if it got what it asked for. */
  private async askForRoom(): Promise<OperationOutcome | null> {
    const { host } = this.state;
    const { request } = this;
    this.operations += 1;
    this.revoked = false;
    const ask = () =>
      executeChild(leaseOperation, {
        workflowId: `${workflowId.lease(host, request.id)}/grant/${this.operations}`,
        args: [
          {
            host,
            goal: { kind: 'lease', tenant: reservationTenant(request.id), request },
            requestedBy: request.holder,
            priority: request.priority,
          },
        ],
        searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
        staticSummary: `room for ${request.holder}`,
      });
    // What nobody wants any more must not push anything out when its turn comes.
    const outcome = await cancelledWhen(() => this.released, ask).catch(outcomeOf);
    this.operationEndedAtMs = Date.now();
    if (outcome?.status === 'done') await this.take(outcome);
    return outcome;
  }

  private async take(outcome: OperationOutcome): Promise<void> {
    const has = await this.read();
    if (has === null) return;
    const { gpus } = has;
    // The turn was over all devices of the host; its tokens are those of the lease's GPUs.
    const epochs = Object.fromEntries(Object.entries(outcome.epochs).filter(([device]) => gpus.includes(device)));
    const granted = { gpus, epochs, expiresAt: new Date(has.expiresAtMs).toISOString() };
    const state = this.revoked || has.revokedUntilMs !== null ? 'revoked' : 'held';
    this.state = { ...this.state, ...granted, state, position: null, reason: null, remedy: null };
    this.show();
  }

  /** Null: the agent holds nothing for it. */
  private read(): Promise<Reservation | null> {
    return this.insist(() => agentReads(this.state.host).readReservation(this.state.id));
  }

  /** @returns false when the agent holds nothing for it any more */
  private async renew({ renewal, ttlSeconds }: { renewal: string; ttlSeconds: number }): Promise<boolean> {
    const has = await this.insist(() => agentReads(this.state.host).renewReservation(this.state.id, ttlSeconds));
    if (has === null) return false;
    this.state = { ...this.state, renewal, ttlSeconds, expiresAt: new Date(has.expiresAtMs).toISOString() };
    return true;
  }

  /** An agent that is away is asked until the reservation has ended by itself. @returns null when it has */
  private async insist<T>(ask: () => Promise<T>): Promise<T | null> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (isCancellation(error) || failureOf(error) === null) throw error;
        if (Date.now() >= this.endsAtMs()) return null;
        log.warn('the agent does not answer for a lease', { error: String(error) });
        await sleep(ASK_AGAIN, { summary: 'until the agent answers' });
      }
    }
  }

  /** When the agent ends by itself what it holds for it, epoch ms; of an operation that has ended it may not be known. */
  private endsAtMs(): number {
    const { expiresAt, ttlSeconds } = this.state;
    return expiresAt === null ? this.operationEndedAtMs + ttlSeconds * 1000 : Date.parse(expiresAt);
  }

  /** Also what an operation that did not end well has left. */
  async giveBack(reason: string): Promise<false> {
    // What nobody held is over at once; its agent may be away for long.
    if (this.state.state === 'queued') this.showEnd(reason);
    await this.insist(() => agentReads(this.state.host).releaseReservation(this.state.id, reason));
    return this.ended(reason);
  }

  private async ended(reason: string): Promise<false> {
    this.showEnd(reason);
    upsertSearchAttributes({ [SEARCH_ATTRIBUTES.outcome]: [reason.slice(0, 100)] });
    await this.leaveLine();
    return false;
  }

  private showEnd(reason: string): void {
    this.state = { ...this.state, state: 'ended', position: null, reason };
    this.show();
  }

  /** A host that does not run has no line; the next operation starts it. */
  private async waitInLine(): Promise<void> {
    const { host, id, priority } = this.state;
    await this.gpuHost(host).signal(signals.leaseWaits, { id, priority }).catch(unlessGone);
  }

  private async leaveLine(): Promise<void> {
    const { host, id } = this.state;
    await this.gpuHost(host).signal(signals.leaseLeaves, { id }).catch(unlessGone);
  }

  private gpuHost(host: string) {
    return getExternalWorkflowHandle(workflowId.gpuHost(host));
  }

  private show(): void {
    const { holder, state, position, gpus, expiresAt, reason } = this.state;
    const what = leaseWords(this.request);
    const lines = [`**${state}**: ${what} for ${holder}${gpus.length > 0 ? ` on ${gpus.join(', ')}` : ''}`];
    if (position !== null) lines.push(`Number ${position} in the line.`);
    if (expiresAt !== null) lines.push(`Until ${expiresAt}, if it is not renewed.`);
    if (reason !== null) lines.push(reason);
    setCurrentDetails(lines.join('\n\n'));
    const published = JSON.stringify(this.state);
    if (published === this.published) return;
    this.published = published;
    upsertMemo({ [STATE_MEMO]: this.state });
  }
}

const WITHDRAWN = 'released while it waited';

const isHopeless = (outcome: OperationOutcome | null): boolean =>
  outcome?.refusal?.code === 'never-fits' || outcome?.refusal?.code === 'no-gpu';

function whyNot(outcome: OperationOutcome | null): Pick<LeaseState, 'remedy'> & { reason: string } {
  if (outcome === null) return { reason: 'its operation ended without an outcome', remedy: null };
  if (outcome.status === 'done') return { reason: 'what it was granted was taken at once', remedy: null };
  return { reason: outcome.refusal?.message ?? outcome.summary, remedy: outcome.refusal?.remedy ?? null };
}

/**
 * A refused or failed operation carries its outcome in the failure; one that was cancelled has none.
 * @throws CancelledFailure when the lease itself is cancelled
 */
function outcomeOf(error: unknown): OperationOutcome | null {
  if (isCancellation(error)) {
    if (CancellationScope.current().consideredCancelled) throw error;
    return null;
  }
  if (!(error instanceof ChildWorkflowFailure)) throw error;
  const details = error.cause instanceof ApplicationFailure ? error.cause.details : null;
  return (details?.[0] as OperationOutcome | undefined) ?? null;
}

function unlessGone(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
