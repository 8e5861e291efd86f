/** What workflows publish of themselves, read at the server: no worker is asked, so it is there also while none runs. */
import type { Client } from '@temporalio/client';
import type { LeaseState } from '../contracts/lease.js';
import { type HostState, STATE_MEMO } from '../contracts/messages.js';
import { workflowId } from '../contracts/names.js';

/** Null before its first task. @throws WorkflowNotFoundError */
export const readHostState = (client: Client, host: string): Promise<HostState | null> =>
  read<HostState>(client, workflowId.gpuHost(host));

/** @throws WorkflowNotFoundError */
export async function readLeaseState(client: Client, workflowId: string): Promise<LeaseState> {
  const state = await read<LeaseState>(client, workflowId);
  if (state === null) throw new TypeError(`${workflowId} was started without its state: a lease starts with it`);
  return state;
}

async function read<State>(client: Client, id: string): Promise<State | null> {
  const { memo } = await client.workflow.getHandle(id).describe();
  return (memo?.[STATE_MEMO] as State | undefined) ?? null;
}
