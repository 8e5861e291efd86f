/** The agent's HTTP endpoint on loopback: what the command line asks (status, plans, journal) and what programs use. */
import { Readable } from 'node:stream';
import fastify, { type FastifyInstance } from 'fastify';
import { z } from 'zod';
import { normalName } from '../adapters/ollama/ollama.js';
import { timeLimit } from '../adapters/timeLimit.js';
import { JOURNAL_TYPES } from '../contracts/journal.js';
import { serviceTenant } from '../contracts/names.js';
import type { Intents, OperationGoal, PlanPreview } from '../contracts/operation.js';
import { SIMULATED_HEADER } from '../contracts/status.js';
import { canFit } from '../domain/canFit.js';
import { checkGoal } from '../domain/checkGoal.js';
import { noIntents } from '../domain/intents.js';
import { planResidency } from '../domain/planResidency.js';
import { resolveTarget } from '../domain/resolveTarget.js';
import type { Agent } from './agent.js';
import { clientLeft } from './clientLeft.js';
import { streamEvents, taken } from './eventStream.js';
import { refuseForeignPages } from './foreignPages.js';
import { KEEP_ALIVE } from './keepAlive.js';
import type { OnDemand } from './onDemand.js';
import { problemOf, RequestProblem } from './problem.js';
import { statusOf } from './status.js';
import { isToken } from './token.js';

export interface EndpointOptions {
  agent: Agent;
  onDemand: OnDemand;
  /** What the host's workflow has on who wants what; null when it cannot be asked. Bounded in time. */
  hostIntents: () => Promise<Intents | null>;
  token: string;
  version: string;
  startedAt: number;
}

const goalQuery = z.union([
  z.strictObject({ mode: z.string() }),
  z.strictObject({ model: z.string() }),
  z.strictObject({ clip: z.enum(['cpu', 'cuda']) }),
  z.strictObject({ phase: z.string() }),
  z.strictObject({ service: z.string() }),
]);
/** Nothing is no number of MB. */
const fitQuery = z.object({ mb: z.string().trim().min(1).transform(Number).pipe(z.number().min(0)) });
const journalQuery = z.object({
  after: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(5_000).default(200),
  type: z.enum(JOURNAL_TYPES).optional(),
});
const logsQuery = z.object({
  tail: z.coerce.number().int().min(0).max(10_000).default(100),
  follow: z.enum(['true', 'false']).default('false'),
});
const generateBody = z.strictObject({ model: z.string(), prompt: z.string(), images: z.array(z.base64()).optional() });
const embedBody = z.union([
  z.strictObject({ texts: z.array(z.string()).min(1).max(256) }),
  z.strictObject({ images: z.array(z.base64()).min(1).max(64) }),
]);

/** The largest body: some photos in base64. */
const BODY_LIMIT = 64 * 1024 * 1024;

export function createEndpoint({
  agent,
  onDemand,
  hostIntents,
  token,
  version,
  startedAt,
}: EndpointOptions): FastifyInstance {
  const server = fastify({ bodyLimit: BODY_LIMIT, forceCloseConnections: true });

  if (agent.options.simulated) {
    // Before all else, and on the raw answer: also on refusals and on streams (law 7).
    server.addHook('onRequest', async (_request, reply) => void reply.raw.setHeader(SIMULATED_HEADER, 'true'));
  }
  server.addHook('onRequest', async (request) => {
    refuseForeignPages(request);
    if (request.url === '/healthz') return;
    const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (!isToken(given, token)) {
      throw new RequestProblem(
        401,
        'unauthorized',
        'the token is missing or wrong',
        'use the token of the agent’s token file',
      );
    }
  });
  server.setErrorHandler((error, _request, reply) => {
    const problem = problemOf(error);
    return reply.status(problem.status).send({ error: problem.body });
  });
  server.setNotFoundHandler(() => {
    throw new RequestProblem(404, 'not-found', 'there is no such route', 'see docs/architecture.md for the endpoint');
  });

  server.get('/healthz', () => ({ ok: true, host: agent.policy.host }));
  server.get('/v1/status', () => statusOf(agent, version, startedAt));
  server.get('/v1/view', async () => {
    await agent.watch.look();
    return agent.view();
  });
  server.get('/v1/plan', async (request): Promise<PlanPreview> => {
    const goal = goalOf(goalQuery.parse(request.query));
    const unknown = checkGoal(goal, agent.policy);
    if (unknown) throw new RequestProblem(404, unknown.type, unknown.message, unknown.remedy);
    const [intents] = await Promise.all([hostIntents(), agent.watch.look()]);
    const observation = agent.observation();
    const target = resolveTarget(goal, intents ?? noIntents(agent.mode), agent.policy, observation);
    return { plan: planResidency(observation, target, agent.policy), observation, intentsKnown: intents !== null };
  });
  server.get('/v1/can-fit', (request) => {
    const { mb } = fitQuery.parse(request.query);
    return canFit(agent.observation(), mb, agent.policy);
  });
  server.get('/v1/models', async () => ({
    installed: await agent.ollama.installed(AbortSignal.timeout(5_000)),
    configured: agent.policy.models,
    observation: agent.observation(),
  }));
  server.get('/v1/journal', (request) => {
    const { type, ...range } = journalQuery.parse(request.query);
    return agent.journal.read({ ...range, ...(type === undefined ? {} : { types: [type] }) });
  });
  addServiceLogs(server, agent);
  addEvents(server, agent);
  addGenerate(server, agent, onDemand);
  server.post('/v1/embed', async (request, reply) => {
    const body = embedBody.parse(request.body);
    const signal = AbortSignal.any([clientLeft(reply), timeLimit(60_000)]);
    const embeddings =
      'texts' in body
        ? await agent.embedder.embedText(body.texts, signal)
        : await agent.embedder.embedImages(body.images, signal);
    return { embeddings, dimension: embeddings[0]?.length ?? 0, device: agent.embedder.process()?.device ?? 'cpu' };
  });
  return server;
}

/** The output of a service as lines, oldest first; with `follow` until the caller leaves. */
function addServiceLogs(server: FastifyInstance, agent: Agent): void {
  server.get('/v1/services/:name/logs', async (request, reply) => {
    const { name } = z.object({ name: z.string() }).parse(request.params);
    const { tail, follow } = logsQuery.parse(request.query);
    const unknown = checkGoal({ kind: 'service', tenant: serviceTenant(name), verb: 'start' }, agent.policy);
    if (unknown) throw new RequestProblem(404, unknown.type, unknown.message, unknown.remedy);
    const lines = agent.services.logs(name, { tail, follow: follow === 'true', signal: clientLeft(reply) });
    return reply.type('text/plain; charset=utf-8').send(Readable.from(withNewlines(lines)));
  });
}

async function* withNewlines(lines: AsyncIterable<string>): AsyncIterable<string> {
  for await (const line of lines) yield `${line}\n`;
}

/** Server-sent events of the journal, from `after` (or Last-Event-ID) on: nothing is lost, nothing comes twice. */
function addEvents(server: FastifyInstance, agent: Agent): void {
  server.get('/v1/events', (request, reply) => {
    const last = request.headers['last-event-id'];
    // A browser that reconnects repeats its first address: what it has seen last counts.
    const { after } = journalQuery.parse({
      ...(request.query as object),
      ...(last === undefined ? {} : { after: last }),
    });
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    // The reader is told that it is connected before there is anything to tell.
    raw.flushHeaders();
    const gone = clientLeft(reply);
    streamEvents(agent.journal, raw, after, gone).catch((error: unknown) => {
      // A reader that leaves ends its stream so; anything else ends it, and the reader resumes.
      if (!gone.aborted) raw.destroy(error instanceof Error ? error : undefined);
    });
  });
}

/** An on-demand request (M13): JSON lines of progress, then of text, then one with `done`. */
function addGenerate(server: FastifyInstance, agent: Agent, onDemand: OnDemand): void {
  server.post('/v1/generate', async (request, reply) => {
    const body = generateBody.parse(request.body);
    const model = normalName(body.model);
    const known = agent.policy.models.map((one) => one.name);
    if (!known.includes(model)) {
      throw new RequestProblem(
        404,
        'UnknownTenant',
        `the configuration has no model "${body.model}"`,
        `the models are: ${known.join(', ')}`,
      );
    }
    const gone = clientLeft(reply);
    reply.hijack();
    const { raw } = reply;
    const line = (value: unknown) => raw.write(`${JSON.stringify(value)}\n`);
    raw.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
    try {
      const use = await onDemand.acquire(model, gone, (progress) => line({ progress }));
      try {
        const signal = AbortSignal.any([gone, use.signal]);
        const options = { signal, keepAlive: KEEP_ALIVE, ...(body.images ? { images: body.images } : {}) };
        for await (const chunk of agent.ollama.generate(model, body.prompt, options)) {
          line(chunk);
          await taken(raw, signal);
        }
      } finally {
        use.end();
        agent.uses.touch(`model/${model}`);
      }
    } catch (error) {
      line({ error: problemOf(error).body });
    }
    raw.end();
  });
}

function goalOf(query: z.infer<typeof goalQuery>): OperationGoal {
  if ('mode' in query) return { kind: 'mode', mode: query.mode };
  if ('phase' in query) return { kind: 'phase', phase: query.phase };
  if ('service' in query) return { kind: 'service', tenant: serviceTenant(query.service), verb: 'start' };
  if ('clip' in query) return { kind: 'embedder', device: query.clip };
  return { kind: 'model', tenant: `model/${normalName(query.model)}`, verb: 'load', demand: false };
}
