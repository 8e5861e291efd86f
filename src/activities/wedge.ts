/** Ends a run that no worker can go on with: whoever has it begun anew calls this first. */
import type { Client } from '@temporalio/client';
import { isWedged } from '../domain/wedge.js';

/** So many of the newest events have the last failures of its tasks, also among signals that go on coming. */
const NEWEST_EVENTS = 50;

/** @returns why the newest run was terminated; null: it gets on, or has ended. @throws WorkflowNotFoundError */
export async function endWedged(client: Client, id: string): Promise<string | null> {
  const { runId, raw, status } = await client.workflow.getHandle(id).describe();
  const { pendingWorkflowTask: task } = raw;
  if (status.name !== 'RUNNING' || !task) return null;
  const { rows, failure } = await failuresOfTask(client, { workflowId: id, runId });
  // The server begins to count anew with each signal that comes between.
  const attempt = (task.attempt ?? 1) + Math.max(0, rows - 1);
  if (!isWedged({ attempt, failure })) return null;
  const reason = `no worker can go on with it: ${failure ?? 'its tasks take too long'} (${attempt} tries)`;
  await client.workflow.getHandle(id, runId).terminate(reason);
  return reason;
}

/** Since the newest task that was completed; the history has the first failure of each row of tries. */
async function failuresOfTask(
  client: Client,
  execution: { workflowId: string; runId: string },
): Promise<{ rows: number; failure: string | null }> {
  const { history } = await client.workflowService.getWorkflowExecutionHistoryReverse({
    namespace: client.options.namespace,
    execution,
    maximumPageSize: NEWEST_EVENTS,
  });
  let rows = 0;
  let failure: string | null = null;
  for (const {
    workflowTaskFailedEventAttributes: failed,
    workflowTaskTimedOutEventAttributes: timedOut,
    workflowTaskCompletedEventAttributes: completed,
  } of history?.events ?? []) {
    if (completed) break;
    if (failed || timedOut) rows += 1;
    if (failed) failure ??= failed.failure?.message ?? 'its task failed';
  }
  return { rows, failure };
}
