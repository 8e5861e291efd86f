/** Leases as the command line asks for them: workflows that are started, looked at and told. */
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { type Client, WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import type { LeaseRequest, LeaseState } from '../contracts/lease.js';
import { SIGNAL, STATE_MEMO } from '../contracts/messages.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, workflowId } from '../contracts/names.js';
import { queuedLease } from '../domain/lease.js';
import { readLeaseState } from '../roles/publishedState.js';
import { UserError } from './userError.js';

/** How often the answer to a renewal is looked for, ms. */
const LOOK_MS = 200;

export interface Leases {
  /** @throws UserError when the name is taken */
  start(request: LeaseRequest): Promise<void>;
  state(id: string): Promise<LeaseState>;
  /** @throws UserError when it is not held any more */
  renew(id: string, ttlSeconds: number): Promise<LeaseState>;
  release(id: string): Promise<void>;
  /** Those that wait or are held. */
  running(): Promise<LeaseState[]>;
}

export function createLeases(client: Client, host: string): Leases {
  const handle = (id: string) => client.workflow.getHandle(workflowId.lease(host, id));
  const read = (id: string) => readLeaseState(client, workflowId.lease(host, id)).catch(noSuchLease(id));
  return {
    async start(request) {
      try {
        await client.workflow.start('lease', {
          workflowId: workflowId.lease(host, request.id),
          taskQueue: CONTROL_QUEUE,
          args: [{ host, request }],
          memo: { [STATE_MEMO]: queuedLease(host, request) },
          staticSummary: `${request.mb === null ? 'a whole GPU' : `${request.mb} MB`} for ${request.holder}`,
          searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
        });
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        throw new UserError(`There is a lease "${request.id}" already.`, {
          remedy: 'Choose another id, or release that one: vramflow lease release.',
        });
      }
    },
    state: read,
    async renew(id, ttlSeconds) {
      const renewal = randomUUID();
      await handle(id).signal(SIGNAL.renewLease, { renewal, ttlSeconds }).catch(noSuchLease(id));
      for (;;) {
        const state = await read(id);
        if (state.renewal === renewal) return state;
        if (state.state !== 'held') {
          throw new UserError(`Lease "${id}" cannot be renewed: it is ${state.state}.`, {
            remedy: 'Ask for a new one: vramflow lease acquire.',
          });
        }
        await pause(LOOK_MS);
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
}

const noSuchLease =
  (id: string) =>
  (error: unknown): never => {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
    throw new UserError(`There is no lease "${id}".`, { remedy: '`vramflow lease list` shows those that there are.' });
  };
