/** P11: status, phases and services of the GPU, as the callers of a media pipeline know them. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Agent } from '../agent/agent.js';
import { problemOf, RequestProblem } from '../agent/problem.js';
import { serviceTenant } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';
import type { AskedGoal } from '../contracts/start.js';
import { checkGoal } from '../domain/checkGoal.js';
import { findPhase } from '../domain/phases.js';
import type { Operations, StartedOperation } from './operations.js';
import type { RouteDescription } from './route.js';
import { gpuStatusSchema, type Outcome, outcomeSchema, problemSchema, startedSchema } from './schemas.js';
import { gpuStatus } from './status.js';
import { waitQuery, waits } from './waiting.js';

const STATUS_OF: Record<OperationOutcome['status'], number> = {
  done: 200,
  refused: 409,
  superseded: 409,
  cancelled: 409,
  failed: 502,
};

const PROGRESS_MS = 500;

const named = z.string().min(1).max(63);
const phaseParams = z.object({ phase: named.describe('The number or the name of a phase of the configuration.') });
const serviceParams = z.object({ name: named.describe('A service of the configuration.') });

/** What all operations answer. */
const operationAnswers: RouteDescription['answers'] = {
  200: {
    description: 'It is done.',
    schema: outcomeSchema,
    events:
      'For `Accept: text/event-stream`: `started`, then `progress` as often as it changes, then `done` or `error`.',
  },
  202: { description: 'It is begun; nobody waits for it.', schema: startedSchema },
  404: { description: 'The configuration has no such phase or service.', schema: problemSchema },
  409: { description: 'It was refused, or something newer took its place; the error says why.', schema: outcomeSchema },
  502: { description: 'It failed; the former residency was put back as far as possible.', schema: outcomeSchema },
  503: { description: 'Temporal does not answer yet.', schema: problemSchema },
};

export function addGpuRoutes(server: FastifyInstance, agent: Agent, operations: Operations): void {
  const status: RouteDescription = {
    summary: 'VRAM, services, who has the lock, the phase',
    answers: { 200: { description: 'As it is now.', schema: gpuStatusSchema } },
  };
  server.get('/gpu/status', { config: { describes: status } }, () => gpuStatus(agent));
  const preparePhase: RouteDescription = {
    summary: 'Stop every service that a phase does not list, then start what it lists',
    params: phaseParams,
    query: waitQuery,
    answers: operationAnswers,
  };
  server.post('/gpu/prepare-phase/:phase', { config: { describes: preparePhase } }, (request, reply) => {
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
    const describes: RouteDescription = {
      summary: `${verb[0]?.toUpperCase()}${verb.slice(1)} one service`,
      params: serviceParams,
      query: waitQuery,
      answers: operationAnswers,
    };
    server.post(`/gpu/service/:name/${verb}`, { config: { describes } }, (request, reply) => {
      const { name } = serviceParams.parse(request.params);
      return operate(agent, operations, { kind: 'service', tenant: serviceTenant(name), verb }, request, reply);
    });
  }
}

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
  const isAwaited = waits(request);
  const started = await operations.start(goal);
  const ids = { workflow_id: started.workflowId, web_ui: started.webUi };
  if (!isAwaited) return reply.status(202).send(ids);
  if ((request.headers.accept ?? '').includes('text/event-stream')) return stream(agent, started, reply);
  const outcome = await started.outcome;
  const answer: Outcome = { ...ids, ...answerOf(outcome) };
  return reply.status(STATUS_OF[outcome.status]).send(answer);
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
    send('error', problemOf(error).body);
  } finally {
    clearInterval(timer);
    raw.end();
  }
  return reply;
}
