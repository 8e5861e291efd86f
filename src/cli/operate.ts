/** Starts an operation's workflow, shows its progress, and tells what came out. */
import { randomUUID } from 'node:crypto';
import { ApplicationFailure, CancelledFailure, WorkflowFailedError, type WorkflowHandle } from '@temporalio/client';
import type { Config } from '../config/schema.js';
import { webLink } from '../config/webUi.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES } from '../contracts/names.js';
import type { OperationInput, OperationOutcome } from '../contracts/operation.js';
import type { OperationWorkflow } from '../contracts/start.js';
import type { Status } from '../contracts/status.js';
import { verbOf } from '../domain/verbs.js';
import { type AgentClient, agentClient } from './agentClient.js';
import type { CliContext } from './context.js';
import { EXIT, type ExitCode } from './exitCodes.js';
import type { Output, Style } from './output.js';
import { temporalClient } from './temporal.js';

export interface OperationRequest {
  workflow: OperationWorkflow;
  workflowId: (request: string) => string;
  input: OperationInput;
  tenant?: string;
  summary: string;
  wait: boolean;
}

/** Progress is looked at so often, and said again at the latest after so long. */
const LOOK_MS = 300;
const SAY_AGAIN_MS = 2_000;
const WAITING = 'waiting for the turn';

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
  const client = await temporalClient(config);
  try {
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
    const outcome = await resultOf(handle, progress(agentClient(config, context), output));
    output.data({ ...ids, outcome }, (_value, style) => renderOutcome(outcome, style));
    return EXIT_OF[outcome.status];
  } finally {
    await client.connection.close();
  }
}

async function resultOf(handle: WorkflowHandle, following: { stop(): void }): Promise<OperationOutcome> {
  try {
    return (await handle.result()) as OperationOutcome;
  } catch (error) {
    const outcome = outcomeOf(error);
    if (outcome === null) throw error;
    return outcome;
  } finally {
    following.stop();
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
    totalMs: 0,
  };
}

/** Says what the agent does meanwhile: state, seconds, estimate. An agent that does not answer is no reason to stop. */
function progress(agent: AgentClient, output: Output): { stop(): void } {
  const startedAt = Date.now();
  let last = '';
  let saidAt = 0;
  let busy = false;
  let hasTurn = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    agent
      .get<Status>('/v1/status')
      .then((status) => describeProgress(status))
      .catch(() => ({ doing: 'waiting for the agent', vram: '' }))
      .then(({ doing, vram }) => {
        busy = false;
        hasTurn ||= doing !== WAITING;
        if (hasTurn && doing === WAITING) return;
        if (doing === last && Date.now() - saidAt < SAY_AGAIN_MS) return;
        last = doing;
        saidAt = Date.now();
        output.talk(`  ${((Date.now() - startedAt) / 1000).toFixed(1).padStart(5)} s  ${doing}${vram}`);
      })
      .catch(() => clearInterval(timer));
  }, LOOK_MS);
  return { stop: () => clearInterval(timer) };
}

function describeProgress(status: Status): { doing: string; vram: string } {
  const moving = status.tenants
    .filter((tenant) => tenant.state === 'loading' || tenant.state === 'unloading')
    .map(
      (tenant) =>
        `${tenant.state} ${tenant.id}${tenant.state === 'loading' ? ` (about ${(tenant.loadMs / 1000).toFixed(1)} s)` : ''}`,
    );
  const vram = status.vram ? `, ${status.vram.used_mb} of ${status.vram.total_mb} MB used` : '';
  const mark = status.simulated ? 'SIMULATED ' : '';
  if (moving.length > 0) return { doing: `${mark}${moving.join(', ')}`, vram };
  return { doing: status.turns.length > 0 ? `${mark}working` : WAITING, vram };
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
