/** A lease (P7): waits for room, holds it for its time, and gives it back; `lease/<host>/<id>`. */
import {
  ApplicationFailure,
  ChildWorkflowFailure,
  condition,
  executeChild,
  getExternalWorkflowHandle,
  makeContinueAsNewFunc,
  setCurrentDetails,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { LeaseRequest, LeaseState } from '../contracts/lease.js';
import { STATE_MEMO } from '../contracts/messages.js';
import { reservationTenant, SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import { leaseWords, queuedLease } from '../domain/lease.js';
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

export async function lease(input: LeaseInput): Promise<LeaseState> {
  const one = new Lease(input);
  if (await one.untilHeld()) await one.untilOver();
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
  private news = false;
  private operations: number;
  private published = '';
  private readonly renewals: { renewal: string; ttlSeconds: number }[] = [];

  private readonly request: LeaseRequest;

  constructor({ host, request, carried }: LeaseInput) {
    this.request = request;
    this.state = carried?.state ?? queuedLease(host, request);
    this.operations = carried?.operations ?? 0;
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
    await this.waitInLine();
    for (;;) {
      this.news = false;
      const outcome = await this.askForRoom();
      if (outcome?.status === 'done') break;
      const reason = outcome?.refusal?.message ?? outcome?.summary ?? 'its operation ended without an outcome';
      // What can never be had is not waited for (pain 2).
      const hopeless = outcome?.refusal?.code === 'never-fits' || outcome?.refusal?.code === 'no-gpu';
      this.state = { ...this.state, reason, remedy: outcome?.refusal?.remedy ?? null };
      if (hopeless || this.released) return this.ended(hopeless ? reason : 'released while it waited');
      this.show();
      if (workflowInfo().continueAsNewSuggested) return false;
      await condition(() => this.released || this.news, LOOK_AGAIN, { summary: 'until there may be room' });
      if (this.released) return this.ended('released while it waited');
    }
    await this.leaveLine();
    return true;
  }

  /** Returns when it has ended, or has to go on in a new run. */
  async untilOver(): Promise<void> {
    for (;;) {
      if (this.state.state !== 'held') {
        const left = await agentReads(this.state.host).readReservation(this.state.id);
        if (left === null) {
          await this.ended('something of higher priority took its memory');
          return;
        }
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
      this.news = false;
      const leftMs = Math.max(1, Date.parse(this.state.expiresAt ?? '') - Date.now());
      await condition(() => this.released || this.news, leftMs, { summary: 'until it expires' });
      const expired = Date.now() >= Date.parse(this.state.expiresAt ?? '');
      if (!this.released && !expired) continue;
      const reason = this.released ? 'released' : 'expired';
      await agentReads(this.state.host).releaseReservation(this.state.id, reason);
      await this.ended(reason);
      return;
    }
  }

  private async askForRoom(): Promise<OperationOutcome | null> {
    const { host } = this.state;
    const { request } = this;
    this.operations += 1;
    const outcome = await executeChild(leaseOperation, {
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
    }).catch(outcomeOf);
    if (outcome?.status === 'done') {
      const has = await agentReads(host).readReservation(request.id);
      const expires = new Date(has?.expiresAtMs ?? Date.now() + request.ttlSeconds * 1000).toISOString();
      const gpus = has?.gpus ?? [];
      // The turn was over all devices of the host; its tokens are those of the lease's GPUs.
      const epochs = Object.fromEntries(Object.entries(outcome.epochs).filter(([device]) => gpus.includes(device)));
      const granted = { gpus, epochs, expiresAt: expires };
      this.state = { ...this.state, ...granted, state: 'held', position: null, reason: null, remedy: null };
      this.show();
    }
    return outcome;
  }

  /** @returns false when the agent holds nothing for it any more */
  private async renew({ renewal, ttlSeconds }: { renewal: string; ttlSeconds: number }): Promise<boolean> {
    const has = await agentReads(this.state.host).renewReservation(this.state.id, ttlSeconds);
    if (has === null) return false;
    this.state = { ...this.state, renewal, ttlSeconds, expiresAt: new Date(has.expiresAtMs).toISOString() };
    return true;
  }

  private async ended(reason: string): Promise<false> {
    this.state = { ...this.state, state: 'ended', position: null, reason };
    this.show();
    upsertSearchAttributes({ [SEARCH_ATTRIBUTES.outcome]: [reason.slice(0, 100)] });
    await this.leaveLine();
    return false;
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

/** A refused or failed operation carries its outcome in the failure. */
function outcomeOf(error: unknown): OperationOutcome | null {
  if (!(error instanceof ChildWorkflowFailure)) throw error;
  const details = error.cause instanceof ApplicationFailure ? error.cause.details : null;
  return (details?.[0] as OperationOutcome | undefined) ?? null;
}

function unlessGone(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
