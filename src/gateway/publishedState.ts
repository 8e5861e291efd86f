/** What workflows publish of themselves, read at the server: no worker is asked, so it is there also while none runs. */
import type { Client, WorkflowExecutionStatusName } from '@temporalio/client';
import type { LeaseState } from '../contracts/lease.js';
import { type HostState, STATE_MEMO } from '../contracts/messages.js';
import { workflowId } from '../contracts/names.js';

/** Null before its first task. @throws WorkflowNotFoundError */
export async function readHostState(client: Client, host: string): Promise<HostState | null> {
  const { memo } = await client.workflow.getHandle(workflowId.gpuHost(host)).describe();
  return (memo?.[STATE_MEMO] as HostState | undefined) ?? null;
}

/** How a run ends that no other one goes on from. */
const OVER: Partial<Record<WorkflowExecutionStatusName, string>> = {
  COMPLETED: 'has completed',
  FAILED: 'has failed',
  CANCELLED: 'was cancelled',
  TERMINATED: 'was terminated',
  TIMED_OUT: 'has timed out',
};

/** @throws WorkflowNotFoundError */
export async function readLeaseState(client: Client, workflowId: string): Promise<LeaseState> {
  const { memo, status } = await client.workflow.getHandle(workflowId).describe();
  const state = memo?.[STATE_MEMO] as LeaseState | undefined;
  if (state === undefined) throw new TypeError(`${workflowId} was started without its state: a lease starts with it`);
  const over = OVER[status.name];
  if (over === undefined || state.state === 'ended') return state;
  // It could not say so itself, and nobody must wait for it any more.
  return { ...state, state: 'ended', position: null, reason: `its workflow ${over}`, remedy: null };
}
