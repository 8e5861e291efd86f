/** P11: status, phases and services of the GPU, as the callers of a media pipeline know them. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Agent } from '../agent/agent.js';
import { RequestProblem } from '../agent/problem.js';
import { statusOf } from '../agent/status.js';
import { serviceTenant, tenantName } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import type { TenantObservation } from '../contracts/residency.js';
import type { AskedGoal } from '../contracts/start.js';
import { SERVICE_STATES } from '../contracts/status.js';
import { checkGoal } from '../domain/checkGoal.js';
import { findPhase } from '../domain/phases.js';
import { version } from '../version.js';
import type { Operations, StartedOperation } from './operations.js';

const STATUS_OF: Record<OperationOutcome['status'], number> = {
  done: 200,
  refused: 409,
  superseded: 409,
  cancelled: 409,
  failed: 502,
};

const PROGRESS_MS = 500;
const startedAt = Date.now();

const phaseParams = z.object({ phase: z.string().min(1).max(63) });
const serviceParams = z.object({ name: z.string().min(1).max(63) });
const waitQuery = z.object({ wait: z.enum(['true', 'false']).default('true') });

export function addGpuRoutes(server: FastifyInstance, agent: Agent, operations: Operations): void {
  server.get('/gpu/status', () => gpuStatus(agent));
  server.post('/gpu/prepare-phase/:phase', (request, reply) => {
    const { phase } = phaseParams.parse(request.params);
    return operate(
      agent,
      operations,
      { kind: 'phase', phase: findPhase(agent.policy, phase)?.name ?? phase },
      request,
      reply,
    );
  });
  for (const verb of ['start', 'stop', 'restart'] as const) {
    server.post(`/gpu/service/:name/${verb}`, (request, reply) => {
      const { name } = serviceParams.parse(request.params);
      return operate(agent, operations, { kind: 'service', tenant: serviceTenant(name), verb }, request, reply);
    });
  }
}

/** From memory, so that it answers at once also while a phase is being prepared. */
export function gpuStatus(agent: Agent) {
  const status = statusOf(agent, version, startedAt);
  const { vram, turns, tenants, simulated, degraded_mode, degraded_reason } = status;
  const [turn] = turns;
  return {
    vram: vram && { total_mb: vram.total_mb, used_mb: vram.used_mb, free_mb: vram.free_mb },
    services: Object.fromEntries(
      tenants.filter(({ kind }) => kind === 'service').map((tenant) => [tenantName(tenant.id), serviceOf(tenant)]),
    ),
    lock: { holder: turn?.workflow_id ?? null, held_ms: turn?.for_ms ?? null },
    phase: status.phase,
    phase_problem: status.phase_problem,
    degraded: degraded_mode,
    degraded_reason,
    simulated,
  };
}

const serviceOf = ({ state, holdings, priority, chargeMb, trouble }: TenantObservation) => ({
  state: SERVICE_STATES[state],
  vram_mb: holdings.reduce((sum, { mb }) => sum + mb, 0),
  charge_mb: chargeMb,
  priority,
  ...(trouble === undefined ? {} : { reason: trouble.reason, next_try_at: trouble.nextTryAt }),
});

/** Waits by default; `?wait=false` or `Prefer: respond-async` does not; `Accept: text/event-stream` shows progress. */
async function operate(
  agent: Agent,
  operations: Operations,
  goal: AskedGoal,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const unknown = checkGoal(goal, agent.policy);
  if (unknown) throw new RequestProblem(404, unknown.type, unknown.message, unknown.remedy);
  const { wait } = waitQuery.parse(request.query);
  const started = await operations.start(goal);
  const ids = { workflow_id: started.workflowId, web_ui: started.webUi };
  if (wait === 'false' || /\brespond-async\b/.test(String(request.headers['prefer'] ?? ''))) {
    return reply.status(202).send(ids);
  }
  if ((request.headers.accept ?? '').includes('text/event-stream')) return stream(agent, started, reply);
  const outcome = await started.outcome;
  return reply.status(STATUS_OF[outcome.status]).send({ ...ids, ...answerOf(outcome) });
}

const answerOf = ({ status, summary, failure, refusal, compensation, totalMs, steps }: OperationOutcome) => ({
  status,
  summary,
  ...(failure === null && refusal === null
    ? {}
    : {
        error: {
          code: failure?.type ?? refusal?.code ?? 'failed',
          message: failure?.message ?? refusal?.message ?? summary,
          remedy: failure?.remedy ?? refusal?.remedy ?? null,
        },
      }),
  compensation,
  total_ms: totalMs,
  steps,
});

async function stream(agent: Agent, started: StartedOperation, reply: FastifyReply): Promise<FastifyReply> {
  reply.hijack();
  const { raw } = reply;
  const send = (event: string, data: unknown) => raw.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  send('started', { workflow_id: started.workflowId, web_ui: started.webUi });
  let last = '';
  const timer = setInterval(() => {
    const { vram, services } = gpuStatus(agent);
    const now = JSON.stringify({ vram, services });
    if (now !== last) send('progress', { vram, services });
    last = now;
  }, PROGRESS_MS);
  raw.on('close', () => clearInterval(timer));
  try {
    send('done', answerOf(await started.outcome));
  } catch (error) {
    send('error', { message: error instanceof Error ? error.message : String(error) });
  } finally {
    clearInterval(timer);
    raw.end();
  }
  return reply;
}
