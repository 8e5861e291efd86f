/** Operations as HTTP callers ask for them: started, and awaited if wanted. */
import { randomUUID } from 'node:crypto';
import { ApplicationFailure, type Client, WorkflowFailedError } from '@temporalio/client';
import { RequestProblem } from '../agent/problem.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import { type AskedGoal, startOf } from '../contracts/start.js';
import { describeGoal } from '../domain/describeGoal.js';

export interface StartedOperation {
  workflowId: string;
  /** The page of its history; null where no Web UI is known. */
  webUi: string | null;
  /** How it ends; a failed or refused one is an outcome too. */
  outcome: Promise<OperationOutcome>;
}

export interface Operations {
  start(goal: AskedGoal): Promise<StartedOperation>;
}

/** @param client null while Temporal does not answer yet */
export function createOperations(
  host: string,
  client: () => Client | null,
  webLink: (workflowId: string, runId: string) => string | null,
): Operations {
  return {
    async start(goal) {
      const connected = connectedClient(client());
      const { workflow, workflowId, tenant } = startOf(host, goal, randomUUID().slice(0, 8));
      const input: OperationInput = { host, goal, requestedBy: 'an HTTP request', priority: 50 };
      const handle = await connected.workflow.start(workflow, {
        workflowId,
        taskQueue: CONTROL_QUEUE,
        args: [input],
        staticSummary: `${describeGoal(goal)}, asked for over HTTP`,
        searchAttributes: {
          [SEARCH_ATTRIBUTES.host]: [host],
          ...(tenant === null ? {} : { [SEARCH_ATTRIBUTES.tenant]: [tenant] }),
        },
      });
      const outcome = (handle.result() as Promise<OperationOutcome>).catch(outcomeOf);
      // A caller that does not wait leaves it to the workflow's own record.
      outcome.catch(() => undefined);
      return { workflowId, webUi: webLink(workflowId, handle.firstExecutionRunId), outcome };
    },
  };
}

/** @throws RequestProblem while Temporal does not answer yet */
export function connectedClient(client: Client | null): Client {
  if (client !== null) return client;
  const remedy = 'try again in a moment; `vramflow doctor` says what is missing';
  throw new RequestProblem(503, 'unavailable', 'Temporal does not answer yet', remedy);
}

/** An operation that ends as a failed workflow carries its outcome in the failure. */
function outcomeOf(error: unknown): OperationOutcome {
  if (error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure) {
    const [outcome] = error.cause.details ?? [];
    if (outcome !== undefined) return outcome as OperationOutcome;
  }
  throw error;
}
