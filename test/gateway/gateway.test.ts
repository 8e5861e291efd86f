/** The gateway on fakes: what it answers is what its document says. */
import type { InjectOptions } from 'fastify';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { z } from 'zod';
import type { ServiceDriver } from '../../src/adapters/services/driver.js';
import type { LeaseState } from '../../src/contracts/lease.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import type { ServicePolicy } from '../../src/contracts/policy.js';
import { SIMULATED_HEADER } from '../../src/contracts/status.js';
import { HEALTH_POLICY } from '../../src/domain/serviceHealth.js';
import { LeaseProblem, type Leases } from '../../src/gateway/leases.js';
import { connectedClient, type Operations } from '../../src/gateway/operations.js';
import { createGateway } from '../../src/gateway/server.js';
import { agentOnFakes, CARD, type Pieces } from '../agent/pieces.js';

const TOKEN = 'a-token-for-this-test';
const SERVICE: ServicePolicy = {
  name: 'tts',
  driver: 'native',
  declaredMb: 4_000,
  priority: 50,
  pinned: false,
  startTimeoutSeconds: 120,
  stopTimeoutSeconds: 30,
};

const done: OperationOutcome = {
  status: 'done',
  goal: { kind: 'phase', phase: 'speech' },
  summary: 'phase speech: start service/tts (2.0 s)',
  steps: [
    {
      step: 's1',
      kind: 'load',
      tenant: 'service/tts',
      ms: 2_000,
      attempts: 1,
      proof: { beforeMb: { [CARD]: 900 }, afterMb: { [CARD]: null }, reclaimMs: null, by: 'it answered' },
      acted: true,
    },
  ],
  failure: null,
  failedTenant: null,
  refusal: null,
  supersededBy: null,
  compensation: null,
  displaced: [],
  residency: null,
  epochs: {},
  totalMs: 2_000,
};

const lease = (change: Partial<LeaseState> = {}): LeaseState => ({
  id: 'render',
  holder: 'blender',
  mb: 4_000,
  on: 1,
  priority: 50,
  ttlSeconds: 60,
  pid: null,
  host: 'desk',
  state: 'held',
  position: null,
  gpus: [CARD],
  epochs: { [CARD]: 7 },
  expiresAt: '2026-11-21T08:15:00.620Z',
  renewal: null,
  reason: null,
  remedy: null,
  ...change,
});
const waiting = lease({ state: 'queued', position: 1, gpus: [], epochs: {}, expiresAt: null, reason: 'no room yet' });

/** Of a service that does not run. */
const driver: ServiceDriver = {
  id: 'native',
  problem: () => null,
  sights: () => [{ service: 'tts', state: 'absent', run: null, pids: [], runningForMs: null, lastExit: null }],
  look: () => Promise.resolve(),
  start: () => Promise.reject(new Error('no test starts it')),
  stop: () => Promise.resolve('stopped'),
  async *logs() {},
  onChange: () => () => {},
  close: () => Promise.resolve(),
};

interface Document {
  paths: Record<string, Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>>;
  components: { schemas: Record<string, object> };
}

interface Served extends Pieces {
  /** With the token and a loopback host; fails when the answer is not as the document says. */
  ask: (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, more?: InjectOptions) => Promise<Answered>;
  start: ReturnType<typeof vi.fn<Operations['start']>>;
  leases: { [Name in keyof Leases]: ReturnType<typeof vi.fn<Leases[Name]>> };
  document: Document;
  /** Its address, for what an answer at once cannot show. */
  listen: () => Promise<string>;
  /** As fastify has them: `GET /gpu/status`. */
  registered: string[];
}

interface Answered {
  status: number;
  body: Record<string, unknown>;
  headers: Record<string, unknown>;
}

async function served(
  change: { openRoutes?: string[]; noTemporal?: boolean; simulated?: boolean } = {},
): Promise<Served> {
  const managed = { name: 'tts', driver, probe: null, health: HEALTH_POLICY, usesGpu: true };
  const pieces = await agentOnFakes({
    simulated: change.simulated ?? false,
    services: [managed],
    policy: { services: [SERVICE], phases: [{ name: 'speech', number: 2, services: ['service/tts'] }] },
  });
  const start = vi.fn<Operations['start']>(() =>
    Promise.resolve({ workflowId: 'phase/desk/speech/1', webUi: 'http://ui.test/1', outcome: Promise.resolve(done) }),
  );
  const leases: Served['leases'] = {
    start: vi.fn<Leases['start']>(() => Promise.resolve()),
    state: vi.fn<Leases['state']>(() => Promise.resolve(waiting)),
    settled: vi.fn<Leases['settled']>(() => Promise.resolve(lease())),
    renew: vi.fn<Leases['renew']>(() => Promise.resolve(lease())),
    release: vi.fn<Leases['release']>(() => Promise.resolve()),
    running: vi.fn<Leases['running']>(() => Promise.resolve([lease(), waiting])),
  };
  const server = createGateway({
    agent: pieces.agent,
    operations: { start },
    leases: () => {
      if (change.noTemporal) connectedClient(null);
      return leases;
    },
    token: TOKEN,
    openRoutes: change.openRoutes ?? [],
  });
  onTestFinished(() => server.close());
  const inject = async (method: Parameters<Served['ask']>[0], url: string, more: InjectOptions = {}) => {
    const headers = { host: '127.0.0.1:8000', authorization: `Bearer ${TOKEN}`, ...more.headers };
    const { statusCode: status, headers: got, body } = await server.inject({ method, url, ...more, headers });
    return { status, headers: got, body: JSON.parse(body) as Record<string, unknown> };
  };
  const document = (await inject('GET', '/openapi.json')).body as unknown as Document;
  const ask: Served['ask'] = async (method, path, more) => {
    const answer = await inject(method, path, more);
    const schema = schemaOf(document, method, path.split('?', 1)[0] ?? '', answer.status);
    if (schema !== null) expect(schema.safeParse(answer.body)).toMatchObject({ success: true });
    return answer;
  };
  await server.ready();
  const lines = server.printRoutes({ commonPrefix: false }).split('\n');
  const listen = () => server.listen({ host: '127.0.0.1', port: 0 });
  return { ...pieces, ask, start, leases, document, listen, registered: routesIn(lines) };
}

/** fastify prints a tree: each line a piece of a path and the methods that end there. */
function routesIn(lines: string[]): string[] {
  const above: { depth: number; path: string }[] = [];
  return lines.flatMap((line) => {
    const [, indent = '', piece = '', methods = ''] = /^([│├└─\s]*)(\S+)(?: \(([^)]+)\))?$/.exec(line) ?? [];
    if (piece === '') return [];
    while ((above.at(-1)?.depth ?? -1) >= indent.length) above.pop();
    const path = (above.at(-1)?.path ?? '') + piece;
    above.push({ depth: indent.length, path });
    return methods.split(', ').flatMap((method) => (method === '' || method === 'HEAD' ? [] : `${method} ${path}`));
  });
}

/** What the document says of an answer; null for a path that it does not have. @throws for an undescribed status */
function schemaOf(document: Document, method: string, path: string, status: number): z.ZodType | null {
  const found = Object.entries(document.paths).find(([pattern]) =>
    new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path),
  );
  const operation = found?.[1][method.toLowerCase()];
  if (operation === undefined) return null;
  const answer = operation.responses[status];
  if (answer === undefined) throw new Error(`${method} ${path} answered ${status}, which is not described`);
  const { schema } = answer.content['application/json'] ?? {};
  const whole = { ...schema, $defs: document.components.schemas };
  return z.fromJSONSchema(JSON.parse(JSON.stringify(whole).replaceAll('#/components/schemas/', '#/$defs/')));
}

const json = (payload: object): InjectOptions => ({ payload });

describe('the document of the gateway', () => {
  it('has every route that is registered, and no other', async () => {
    const { document, registered } = await served();
    const described = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`),
    );
    expect(described).toContain('POST /gpu/service/:name/start');
    expect(described).toHaveLength(11);
    expect(described.sort()).toEqual(registered.sort());
  });

  it('is OpenAPI 3.1, with nothing that points nowhere, and each operation under a name of its own', async () => {
    const { document } = await served();
    expect(document).toMatchObject({ openapi: '3.1.0', info: { title: 'vramflow' } });
    const text = JSON.stringify(document);
    const targets = [...text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name);
    expect(targets.length).toBeGreaterThan(20);
    for (const target of targets) expect(document.components.schemas).toHaveProperty(target ?? '');
    const ids = [...text.matchAll(/"operationId":"(\w+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toContain('postGpuLeaseIdRenew');
  });

  it('is read with the token only, and says which routes need none', async () => {
    const { ask, document } = await served({ openRoutes: ['/gpu/*'] });
    expect(await ask('GET', '/openapi.json', { headers: { authorization: '' } })).toMatchObject({ status: 401 });
    expect(document.paths['/gpu/status']?.['get']).toMatchObject({ security: [{ token: [] }, {}] });
    expect(document.paths['/openapi.json']?.['get']).toMatchObject({ security: [{ token: [] }] });
    expect(await ask('GET', '/gpu/status', { headers: { authorization: '' } })).toMatchObject({ status: 200 });
  });
});

describe('the answers are as the document says', () => {
  it('to operations: done, begun, refused, failed, unknown', async () => {
    const { ask, start } = await served();
    expect(await ask('POST', '/gpu/prepare-phase/2')).toMatchObject({
      status: 200,
      body: { status: 'done', web_ui: 'http://ui.test/1', workflow_id: 'phase/desk/speech/1' },
    });
    expect(start).toHaveBeenCalledWith({ kind: 'phase', phase: 'speech' });
    expect(await ask('POST', '/gpu/service/tts/start?wait=false')).toMatchObject({
      status: 202,
      body: { web_ui: 'http://ui.test/1' },
    });
    const refusal = { code: 'holder-outranks', message: 'no', remedy: 'stop it' };
    const refused = { ...done, status: 'refused', refusal: { ...refusal, figures: {} } } as unknown as OperationOutcome;
    const failed = {
      ...done,
      status: 'failed',
      failure: { type: 'ServiceFailed', message: 'm', remedy: null },
    } as const;
    for (const [outcome, status] of [
      [refused, 409],
      [failed, 502],
    ] as const) {
      start.mockResolvedValueOnce({ workflowId: 'w', webUi: null, outcome: Promise.resolve(outcome) });
      expect(await ask('POST', '/gpu/service/tts/restart')).toMatchObject({ status, body: { web_ui: null } });
    }
    expect(await ask('POST', '/gpu/service/nobody/stop')).toMatchObject({ status: 404 });
    expect(await ask('POST', '/gpu/service/tts/stop?wait=perhaps')).toMatchObject({ status: 400 });
    start.mockRejectedValueOnce(new Error('unforeseen'));
    expect(await ask('POST', '/gpu/service/tts/stop')).toMatchObject({ status: 500 });
  });

  it('to leases: held, waiting, renewed, released, listed', async () => {
    const { ask, leases } = await served();
    expect(await ask('POST', '/gpu/lease', json({ id: 'render', mb: 4_000, holder: 'blender' }))).toMatchObject({
      status: 200,
      body: { state: 'held', gpus: [CARD], fencing_tokens: { [CARD]: 7 } },
    });
    expect(leases.start).toHaveBeenCalledWith({
      id: 'render',
      holder: 'blender',
      mb: 4_000,
      on: 1,
      priority: 50,
      ttlSeconds: 60,
      pid: null,
    });
    expect(await ask('POST', '/gpu/lease', json({ devices: [CARD], ttl_seconds: 5, wait: false }))).toMatchObject({
      status: 202,
      body: { state: 'queued', position: 1 },
    });
    expect(leases.start).toHaveBeenLastCalledWith(expect.objectContaining({ mb: null, on: [CARD], ttlSeconds: 5 }));
    await ask('POST', '/gpu/lease', json({ mb: 4_000, gpus: 3 }));
    expect(leases.start).toHaveBeenLastCalledWith(expect.objectContaining({ mb: 4_000, on: 3 }));
    expect(await ask('POST', '/gpu/lease/render/renew', json({ ttl_seconds: 30 }))).toMatchObject({ status: 200 });
    expect(leases.renew).toHaveBeenCalledWith('render', 30);
    expect(await ask('GET', '/gpu/lease/render')).toMatchObject({ status: 200, body: { reason: 'no room yet' } });
    expect(await ask('DELETE', '/gpu/lease/render')).toMatchObject({ status: 200, body: { released: true } });
    expect(leases.release).toHaveBeenCalledWith('render');
    expect((await ask('GET', '/gpu/leases')).body).toMatchObject({ leases: [{ id: 'render' }, { position: 1 }] });
  });

  it('to leases that cannot be', async () => {
    const { ask, leases } = await served();
    leases.settled.mockResolvedValueOnce(lease({ state: 'ended', gpus: [], expiresAt: null, reason: 'never fits' }));
    expect(await ask('POST', '/gpu/lease', json({ mb: 90_000 }))).toMatchObject({
      status: 409,
      body: { error: { code: 'lease-ended', message: 'never fits' }, lease: { state: 'ended' } },
    });
    leases.start.mockRejectedValueOnce(new LeaseProblem('lease-exists', 'm', 'r'));
    expect(await ask('POST', '/gpu/lease', json({ mb: 1 }))).toMatchObject({
      status: 409,
      body: { error: { code: 'lease-exists', remedy: 'r' } },
    });
    leases.renew.mockRejectedValueOnce(new LeaseProblem('lease-not-held', 'm', 'r'));
    expect(await ask('POST', '/gpu/lease/render/renew')).toMatchObject({ status: 409 });
    leases.release.mockRejectedValueOnce(new LeaseProblem('no-such-lease', 'm', 'r'));
    expect(await ask('DELETE', '/gpu/lease/render')).toMatchObject({ status: 404 });
    expect(await ask('POST', '/gpu/lease', json({ devices: ['GPU-of-another'] }))).toMatchObject({
      status: 404,
      body: { error: { code: 'no-such-gpu', remedy: expect.stringContaining(CARD) } },
    });
    for (const bad of [
      { mb: 0 },
      { mb: 1.5 },
      { id: '-x' },
      { gpus: 0 },
      { gpus: 1, devices: [CARD] },
      { priority: 101 },
      { command: ['sh'] },
    ]) {
      expect(await ask('POST', '/gpu/lease', json(bad))).toMatchObject({ status: 400 });
    }
    const text = { headers: { 'content-type': 'text/x' }, payload: 'mb=1' };
    expect(await ask('POST', '/gpu/lease', text)).toMatchObject({ status: 415 });
    expect(leases.start).toHaveBeenCalledTimes(2);
  });

  it('to a lease whose caller leaves while it is being begun: it is taken back', async () => {
    const { leases, listen } = await served();
    let begun: () => void = () => {};
    leases.start.mockReturnValueOnce(new Promise((resolve) => (begun = resolve)));
    const url = `${await listen()}/gpu/lease`;
    const caller = new AbortController();
    const headers = { authorization: `Bearer ${TOKEN}` };
    const asked = fetch(url, { method: 'POST', headers, signal: caller.signal });
    await vi.waitFor(() => expect(leases.start).toHaveBeenCalled());
    const left = expect(asked).rejects.toThrow();
    caller.abort();
    await left;
    // The next answer comes after the end of that connection was seen.
    await fetch(`${url}s`, { headers });
    begun();
    await vi.waitFor(() => expect(leases.settled).toHaveBeenCalled());
    await vi.waitFor(() => expect(leases.settled.mock.lastCall?.[1].signal.aborted).toBe(true));
  });

  it('to leases before Temporal answers', async () => {
    const { ask } = await served({ noTemporal: true });
    expect(await ask('GET', '/gpu/leases')).toMatchObject({ status: 503, body: { error: { code: 'unavailable' } } });
  });

  it('to whoever must not ask', async () => {
    const { ask } = await served();
    expect(await ask('GET', '/gpu/leases', { headers: { authorization: '' } })).toMatchObject({ status: 401 });
    expect(await ask('GET', '/gpu/leases', { headers: { origin: 'http://evil.example' } })).toMatchObject({
      status: 403,
    });
  });
});

interface SentEvent {
  event: string;
  data: Record<string, unknown>;
}

/** Server-sent events as they come. */
async function* eventsOf(response: Response): AsyncGenerator<SentEvent, undefined> {
  let rest = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    const messages = (rest + chunk).split('\n\n');
    rest = messages.pop() ?? '';
    for (const message of messages) {
      const [, event = '', data = ''] = /^event: (\w+)\ndata: (.*)$/.exec(message) ?? [];
      yield { event, data: JSON.parse(data) as SentEvent['data'] };
    }
  }
}

describe('an operation with Accept: text/event-stream', () => {
  async function streamed(path = '/gpu/prepare-phase/2', change: Parameters<typeof served>[0] = {}) {
    const pieces = await served(change);
    let end: (outcome: OperationOutcome | Promise<never>) => void = () => {};
    const outcome = new Promise<OperationOutcome>((resolve) => {
      end = resolve;
    });
    pieces.start.mockResolvedValueOnce({ workflowId: 'phase/desk/speech/1', webUi: 'http://ui.test/1', outcome });
    const url = `${await pieces.listen()}${path}`;
    const headers = { accept: 'text/event-stream', authorization: `Bearer ${TOKEN}` };
    const response = await fetch(url, { method: 'POST', headers });
    const events = eventsOf(response);
    const next = async () => (await events.next()).value;
    return { ...pieces, response, next, end };
  }
  const usedMb = (event: SentEvent | undefined) => (event?.data['vram'] as { used_mb: number } | undefined)?.used_mb;

  it('shows where it is from its start on, each change once, and then the outcome', async () => {
    const { response, next, end, card, agent } = await streamed();
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    expect(await next()).toEqual({
      event: 'started',
      data: { workflow_id: 'phase/desk/speech/1', web_ui: 'http://ui.test/1' },
    });
    const first = await next();
    expect(first).toMatchObject({ event: 'progress', data: { services: { tts: { state: 'stopped' } } } });
    card.strangers.push({ uuid: CARD, pid: 1, name: 'game', usedMb: 2_000 });
    const second = await next();
    expect(second?.event).toBe('progress');
    expect((usedMb(second) ?? 0) - (usedMb(first) ?? 0)).toBe(2_000);
    // It looks again, and there is nothing new to say.
    const looks = vi.spyOn(agent, 'phase', 'get');
    await vi.waitFor(() => expect(looks.mock.calls.length).toBeGreaterThanOrEqual(2), { timeout: 10_000 });
    end(done);
    expect(await next()).toMatchObject({ event: 'done', data: { status: 'done', summary: done.summary, steps: [{}] } });
    expect(await next()).toBeUndefined();
  });

  it('ends with the reason where nobody can tell the outcome', async () => {
    const { next, end } = await streamed();
    expect((await next())?.event).toBe('started');
    end(Promise.reject(new Error('Temporal went away')));
    // What is on its way comes first.
    let last = await next();
    while (last?.event === 'progress') last = await next();
    const data = { code: 'internal', message: 'Temporal went away', remedy: expect.any(String) };
    expect(last).toEqual({ event: 'error', data });
    expect(await next()).toBeUndefined();
  });

  it('says from its first line on that the host is simulated (law 7)', async () => {
    const { response, end } = await streamed(undefined, { simulated: true });
    expect(response.headers.get(SIMULATED_HEADER)).toBe('true');
    end(done);
    await response.text();
  });

  it('is a plain answer where nothing begins', async () => {
    const { response } = await streamed('/gpu/service/nobody/start');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: 'UnknownTenant', remedy: 'the services are: tts' } });
  });
});

describe('the lock in the status (P7)', () => {
  const reservation = { ...lease(), revokedUntilMs: null, chargeMb: 4_000 };
  const [grantedAtMs, expiresAtMs] = [Date.now() - 5_000, Date.now() + 60_000];

  it('is free at first, and every lease is seen', async () => {
    const { ask, agent } = await served();
    expect((await ask('GET', '/gpu/status')).body).toMatchObject({
      lock: { holder: null, devices: [] },
      leases: [],
      services: { tts: { state: 'stopped', priority: 50 } },
    });
    agent.reservations.put({ ...reservation, grantedAtMs, expiresAtMs });
    expect((await ask('GET', '/gpu/status')).body).toMatchObject({
      lock: { holder: null },
      leases: [{ id: 'render', holder: 'blender', mb: 4_000, gpus: [CARD] }],
    });
    agent.reservations.put({ ...reservation, id: 'all', holder: 'trainer', mb: null, grantedAtMs, expiresAtMs });
    expect((await ask('GET', '/gpu/status')).body).toMatchObject({
      lock: { holder: 'trainer', kind: 'lease', id: 'all', expires_at: new Date(expiresAtMs).toISOString() },
    });
  });

  it('is with the operation that has the turn', async () => {
    const { ask, agent } = await served();
    await agent.fence.enter({ operation: { workflowId: 'phase/x', runId: 'r' }, epochs: { [CARD]: 1 } });
    expect((await ask('GET', '/gpu/status')).body).toMatchObject({
      lock: { holder: 'phase/x', kind: 'operation', devices: [CARD], expires_at: null },
    });
  });
});

describe('a request that no route takes', () => {
  it.each([
    ['POST', '/gpu/status', 'GET, HEAD'],
    ['GET', '/gpu/prepare-phase/2', 'POST'],
    ['PUT', '/gpu/lease/render', 'GET, DELETE, HEAD'],
    ['DELETE', '/openapi.json', 'GET, HEAD'],
  ] as const)('%s %s: 405, and what is allowed', async (method, path, allow) => {
    const { ask } = await served();
    // A body of whichever type changes nothing.
    const answer = await ask(method, path, {
      headers: { 'content-type': 'text/x' },
      payload: method === 'GET' ? '' : 'x',
    });
    expect(answer).toMatchObject({ status: 405, body: { error: { code: 'wrong-method' } }, headers: { allow } });
  });

  it('404 for an unknown path, and 401 before either without the token', async () => {
    const { ask } = await served();
    expect(await ask('GET', '/gpu/nothing')).toMatchObject({ status: 404, body: { error: { code: 'not-found' } } });
    expect(await ask('POST', '/gpu/status', { headers: { authorization: '' } })).toMatchObject({ status: 401 });
  });
});
