/** Starts an operation's workflow, shows its progress, and tells what came out. */
import { randomUUID } from 'node:crypto';
import {
  ApplicationFailure,
  CancelledFailure,
  type Client,
  WorkflowFailedError,
  type WorkflowHandle,
} from '@temporalio/client';
import type { Config } from '../config/schema.js';
import { webLink } from '../config/webUi.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import type { OperationWorkflow } from '../contracts/start.js';
import { verbOf } from '../domain/verbs.js';
import { agentClient } from './agentClient.js';
import type { CliContext } from './context.js';
import { EXIT, type ExitCode } from './exitCodes.js';
import type { Output, Style } from './output.js';
import { followProgress } from './progress.js';
import { withTemporal } from './temporal.js';
import { UserError } from './userError.js';

export interface OperationRequest {
  workflow: OperationWorkflow;
  workflowId: (request: string) => string;
  input: OperationInput;
  tenant?: string;
  summary: string;
  wait: boolean;
}

const EXIT_OF: Record<OperationOutcome['status'], ExitCode> = {
  done: EXIT.ok,
  refused: EXIT.refused,
  superseded: EXIT.superseded,
  cancelled: EXIT.superseded,
  failed: EXIT.failed,
};

/** @returns the exit code */
export async function operate(
  config: Config,
  context: CliContext,
  output: Output,
  request: OperationRequest,
): Promise<ExitCode> {
  return withTemporal(config, context, async (client) => {
    const handle = await client.workflow.start(request.workflow, {
      workflowId: request.workflowId(randomUUID().slice(0, 8)),
      taskQueue: CONTROL_QUEUE,
      args: [request.input],
      staticSummary: request.summary,
      searchAttributes: {
        [SEARCH_ATTRIBUTES.host]: [request.input.host],
        ...(request.tenant ? { [SEARCH_ATTRIBUTES.tenant]: [request.tenant] } : {}),
      },
    });
    const link = webLink(config, handle.workflowId, handle.firstExecutionRunId);
    output.talk(`workflow ${handle.workflowId}`);
    if (link !== null) output.talk(`  ${link}`);
    const ids = { workflow_id: handle.workflowId, run_id: handle.firstExecutionRunId, web_ui: link };
    if (!request.wait) {
      output.data({ ...ids, outcome: null }, () => handle.workflowId);
      return EXIT.ok;
    }
    const following = followProgress(agentClient(config, context), request.input.host, output);
    const outcome = await unlessInterrupted(client, handle, () => resultOf(handle)).finally(() => following.stop());
    output.data({ ...ids, outcome }, (_value, style) => renderOutcome(outcome, style));
    return EXIT_OF[outcome.status];
  });
}

/** @throws UserError at Ctrl-C: who waits leaves, the operation goes on */
async function unlessInterrupted<T>(
  client: Client,
  { workflowId }: WorkflowHandle,
  wait: () => Promise<T>,
): Promise<T> {
  const leaving = new AbortController();
  const leave = () => leaving.abort();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, leave);
  try {
    return await client.withAbortSignal(leaving.signal, wait);
  } catch (error) {
    if (!leaving.signal.aborted) throw error;
    const message = `${workflowId} goes on; only the waiting here is interrupted.`;
    throw new UserError(message, { exitCode: EXIT.interrupted, remedy: '`vramflow history` tells how it ends.' });
  } finally {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.off(name, leave);
  }
}

async function resultOf(handle: WorkflowHandle): Promise<OperationOutcome> {
  try {
    return (await handle.result()) as OperationOutcome;
  } catch (error) {
    const outcome = outcomeOf(error);
    if (outcome === null) throw error;
    return outcome;
  }
}

/** An operation that ends as a failed workflow carries its outcome in the failure. */
function outcomeOf(error: unknown): OperationOutcome | null {
  if (!(error instanceof WorkflowFailedError)) return null;
  if (error.cause instanceof ApplicationFailure)
    return (error.cause.details?.[0] as OperationOutcome | undefined) ?? null;
  if (!(error.cause instanceof CancelledFailure)) return null;
  return {
    status: 'cancelled',
    goal: { kind: 'reconcile', reason: 'cancelled' },
    summary: 'cancelled: see vramflow history for the residency it left',
    steps: [],
    failure: null,
    failedTenant: null,
    refusal: null,
    supersededBy: null,
    compensation: null,
    displaced: [],
    residency: null,
    epochs: {},
    totalMs: 0,
  };
}

export function renderOutcome(outcome: OperationOutcome, style: Style): string {
  const paint = outcome.status === 'done' ? style.green : outcome.status === 'superseded' ? style.yellow : style.red;
  const lines = [`${paint(outcome.status)}: ${outcome.summary}`];
  for (const step of outcome.steps) {
    const change = Object.entries(step.proof.beforeMb)
      .map(([gpu, before]) => `${gpu.slice(0, 12)} ${before ?? '?'} → ${step.proof.afterMb[gpu] ?? '?'} MB`)
      .join(', ');
    const tries = step.attempts > 1 ? `, attempt ${step.attempts}` : '';
    lines.push(
      `  ${verbOf(step)} ${step.tenant}: ${(step.ms / 1000).toFixed(1)} s${tries}; ${step.proof.by}${change ? `; ${change}` : ''}`,
    );
  }
  if (outcome.refusal) {
    for (const [gpu, figure] of Object.entries(outcome.refusal.figures)) {
      lines.push(
        `  ${gpu}: ${figure.usedMb ?? '?'} of ${figure.totalMb ?? '?'} MB used, ${figure.freeMb ?? '?'} free, ${figure.foreignMb ?? '?'} foreign`,
      );
    }
    lines.push(`  ${outcome.refusal.remedy}`);
  }
  if (outcome.failure?.remedy) lines.push(`  ${outcome.failure.remedy}`);
  if (outcome.compensation) lines.push(`  ${outcome.compensation}`);
  return lines.join('\n');
}
