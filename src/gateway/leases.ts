/** Leases as programs and people ask for them: workflows that are started, looked at and told. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { type Client, WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import type { LeaseRequest, LeaseState } from '../contracts/lease.js';
import { SIGNAL, STATE_MEMO } from '../contracts/messages.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import { leaseWords, queuedLease } from '../domain/lease.js';
import { readLeaseState } from './publishedState.js';

/** How often the answer to a renewal is looked for, one that waits is looked at, and one that ends, ms. */
const LOOK_MS = { renewal: 200, waiting: 300, ending: 100 };
/** For the last words of a lease that is over: its agent may be away for longer. */
const ENDING_MS = 10_000;
/** A renewal that nobody has heard by then is given up. */
const RENEWAL_MS = 30_000;

/** What a lease cannot do, and what to do about it. */
export class LeaseProblem extends Error {
  override readonly name = 'LeaseProblem';

  constructor(
    readonly code: 'lease-exists' | 'no-such-lease' | 'lease-not-held' | 'unavailable',
    message: string,
    readonly remedy: string,
  ) {
    super(message);
  }
}

export interface Leases {
  /** @throws LeaseProblem when the name is taken */
  start(request: LeaseRequest): Promise<void>;
  state(id: string): Promise<LeaseState>;
  /** Resolves when it waits no more: it is held, or it ended before. Who gives up takes it back. */
  settled(id: string, options: { signal: AbortSignal; onLook?: (state: LeaseState) => void }): Promise<LeaseState>;
  /** @throws LeaseProblem when it is not held any more, or when no control worker answers */
  renew(id: string, ttlSeconds: number): Promise<LeaseState>;
  release(id: string): Promise<void>;
  /** Those that wait or are held. */
  running(): Promise<LeaseState[]>;
}

export function createLeases(client: Client, host: string): Leases {
  const handle = (id: string) => client.workflow.getHandle(workflowId.lease(host, id));
  const begin = (request: LeaseRequest) =>
    client.workflow.start('lease', {
      workflowId: workflowId.lease(host, request.id),
      taskQueue: CONTROL_QUEUE,
      args: [{ host, request }],
      memo: { [STATE_MEMO]: queuedLease(host, request) },
      staticSummary: `${leaseWords(request)} for ${request.holder}`,
      searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
    });
  const leases: Leases = {
    async start(request) {
      for (const until = Date.now() + ENDING_MS; ; await pause(LOOK_MS.ending)) {
        try {
          await begin(request);
          return;
        } catch (error) {
          if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
          // One that was never held is over before its workflow has ended, and its name free a moment later.
          if (Date.now() < until && (await leases.state(request.id)).state === 'ended') continue;
          const remedy = 'Choose another id, or release that one: vramflow lease release.';
          throw new LeaseProblem('lease-exists', `There is a lease "${request.id}" already.`, remedy);
        }
      }
    },
    state: (id) => readLeaseState(client, workflowId.lease(host, id)).catch(noSuchLease(id)),
    async settled(id, { signal, onLook }) {
      for (;;) {
        const state = await leases.state(id);
        if (state.state === 'ended') return state;
        if (signal.aborted) {
          await leases.release(id);
          signal.throwIfAborted();
        }
        if (state.state !== 'queued') return state;
        onLook?.(state);
        // An abort is seen at the next look.
        await pause(LOOK_MS.waiting, undefined, { signal }).catch(() => undefined);
      }
    },
    async renew(id, ttlSeconds) {
      const renewal = randomUUID();
      const until = Date.now() + RENEWAL_MS;
      await handle(id).signal(SIGNAL.renewLease, { renewal, ttlSeconds }).catch(noSuchLease(id));
      for (;;) {
        const state = await leases.state(id);
        if (state.renewal === renewal) return state;
        if (state.state !== 'held') {
          const message = `Lease "${id}" cannot be renewed: it is ${state.state}.`;
          throw new LeaseProblem('lease-not-held', message, 'Ask for a new one: vramflow lease acquire.');
        }
        if (Date.now() >= until) {
          const message = `Lease "${id}" is not renewed: no control worker has answered for ${RENEWAL_MS / 1_000} s.`;
          const remedy = 'Start one: `vramflow up` or `vramflow worker --role control`.';
          throw new LeaseProblem('unavailable', message, remedy);
        }
        await pause(LOOK_MS.renewal);
      }
    },
    release: (id) => handle(id).signal(SIGNAL.releaseLease).catch(noSuchLease(id)),
    async running() {
      const query = `WorkflowType = "lease" AND ExecutionStatus = "Running" AND ${SEARCH_ATTRIBUTES.host} = "${host}"`;
      const states: LeaseState[] = [];
      for await (const { workflowId: id } of client.workflow.list({ query })) {
        states.push(await readLeaseState(client, id));
      }
      return states.sort((a, b) => (a.position ?? 0) - (b.position ?? 0) || (a.id < b.id ? -1 : 1));
    },
  };
  return leases;
}

const noSuchLease =
  (id: string) =>
  (error: unknown): never => {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
    const remedy = '`vramflow lease list` shows those that there are.';
    throw new LeaseProblem('no-such-lease', `There is no lease "${id}".`, remedy);
  };
