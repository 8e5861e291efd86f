import { WorkflowExecutionAlreadyStartedError, WorkflowIdReusePolicy } from '@temporalio/common';
import { log, ParentClosePolicy, startChild } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { OperationInput } from '../contracts/operation.js';
import type { modeTransition } from './modeTransition.js';

/** Starts an operation that outlives this run of the host; the same id twice is one request. */
export async function startOperation(
  workflow: typeof modeTransition,
  workflowId: string,
  input: OperationInput,
): Promise<void> {
  try {
    await startChild(workflow, {
      workflowId,
      args: [input],
      parentClosePolicy: ParentClosePolicy.ABANDON,
      searchAttributes: { [SEARCH_ATTRIBUTES.host]: [input.host] },
      staticSummary: `for ${input.requestedBy}`,
      workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    log.info('an operation was asked for before: the same request again changes nothing', { workflowId });
  }
}
