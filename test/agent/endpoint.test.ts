import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { createInterface } from 'node:readline';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { OllamaError } from '../../src/adapters/ollama/ollama.js';
import { createEndpoint } from '../../src/agent/endpoint.js';
import { type LoadOnDemand, OnDemand } from '../../src/agent/onDemand.js';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { Intents, OperationOutcome, PlanPreview } from '../../src/contracts/operation.js';
import { noIntents } from '../../src/domain/intents.js';
import { agentOnFakes, type Pieces } from './pieces.js';

const TOKEN = 'a-token-for-this-test';
const NAME = 'qwen3-vl:8b';

interface Served extends Pieces {
  server: FastifyInstance;
  load: ReturnType<typeof vi.fn<LoadOnDemand>>;
  hostIntents: ReturnType<typeof vi.fn<() => Promise<Intents | null>>>;
  /** With the token and a loopback host, unless the options say otherwise. */
  ask: (url: string, options?: InjectOptions) => Promise<{ status: number; body: unknown; text: string }>;
}

async function served(change: Parameters<typeof agentOnFakes>[0] = {}): Promise<Served> {
  const pieces = await agentOnFakes(change);
  const load = vi.fn<LoadOnDemand>(async () => {
    pieces.ollama.put(NAME);
    await pieces.agent.watch.look();
    return { workflowId: 'model/load', outcome: Promise.resolve({} as OperationOutcome) };
  });
  const onDemand = new OnDemand(pieces.agent, load);
  const hostIntents = vi.fn<() => Promise<Intents | null>>(() => Promise.resolve(null));
  const rest = { token: TOKEN, version: '0.1.0', startedAt: 0 };
  const server = createEndpoint({ agent: pieces.agent, onDemand, hostIntents, ...rest });
  onTestFinished(() => server.close());
  const ask: Served['ask'] = async (url, options = {}) => {
    const headers = { host: '127.0.0.1:8000', authorization: `Bearer ${TOKEN}`, ...options.headers };
    const answer = await server.inject({ url, ...options, headers });
    const isJson = answer.headers['content-type']?.toString().startsWith('application/json') ?? false;
    return { status: answer.statusCode, body: isJson ? answer.json<unknown>() : null, text: answer.body };
  };
  return { ...pieces, server, load, hostIntents, ask };
}

const post = (payload: object): InjectOptions => ({ method: 'POST', payload });
const linesOf = (text: string): unknown[] =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);

describe('who may ask', () => {
  it.each([
    ['no token', { authorization: '' }],
    ['a wrong token', { authorization: `Bearer ${TOKEN}x` }],
    ['another scheme', { authorization: `Basic ${TOKEN}` }],
  ])('not one with %s', async (_, headers) => {
    const { ask } = await served();
    for (const url of ['/v1/status', '/v1/events', '/no/such/route', '/healthz?x=1']) {
      expect(await ask(url, { headers })).toMatchObject({ status: 401, body: { error: { code: 'unauthorized' } } });
    }
    expect(await ask('/healthz', { headers })).toMatchObject({ status: 200, body: { ok: true, host: 'desk' } });
  });

  it.each([
    ['a name that was bound to loopback by its owner', { host: 'evil.example:8000' }],
    ['a name that begins like loopback', { host: 'localhost.evil.example' }],
    ['an address that begins like loopback', { host: '127.0.0.1.evil.example' }],
    ['a page of another site', { origin: 'http://evil.example' }],
    ['a page of another port', { origin: 'http://127.0.0.1:9999' }],
    ['a page without an origin', { origin: 'null' }],
  ])('not %s, not even for the health', async (_, headers) => {
    const { ask } = await served();
    for (const url of ['/v1/status', '/healthz']) {
      expect(await ask(url, { headers })).toMatchObject({ status: 403, body: { error: { code: 'foreign-origin' } } });
    }
  });

  it.each(['localhost:8000', '127.0.0.1:8000', '[::1]:8000', 'localhost'])('one on this machine: %s', async (host) => {
    const { ask } = await served();
    expect(await ask('/v1/status', { headers: { host } })).toMatchObject({ status: 200 });
    expect(await ask('/v1/status', { headers: { host, origin: `http://${host}` } })).toMatchObject({ status: 200 });
  });
});

describe('what can be asked', () => {
  it('status, view, models, and whether something fits', async () => {
    const { ask } = await served();
    expect((await ask('/v1/status')).body).toMatchObject({ execution_mode: 'idle', host: 'desk' });
    expect((await ask('/v1/view')).body).toMatchObject({ instance: 'test', mode: 'idle', epochs: {} });
    expect((await ask('/v1/models')).body).toMatchObject({ installed: [{ name: NAME }] });
    expect((await ask('/v1/can-fit?mb=4000')).body).toMatchObject({ fits: true });
    expect((await ask('/v1/can-fit?mb=40000')).body).toMatchObject({ fits: false });
  });

  it('a plan, with spellings of a model, and changes nothing', async () => {
    const { ask, ollama } = await served();
    for (const query of ['mode=recording', 'model=Qwen3-VL:8B', 'clip=cuda']) {
      expect((await ask(`/v1/plan?${query}`)).body).toMatchObject({ plan: { kind: 'plan', steps: [{}] } });
    }
    expect(ollama.calls).toEqual([]);
    expect((await ask('/v1/plan?mode=party')).body).toMatchObject({
      error: { code: 'UnknownMode', remedy: expect.stringContaining('recording') },
    });
    expect(await ask('/v1/plan?model=nobody:1b')).toMatchObject({ status: 404 });
  });

  it('a plan as the host would make it: what it wants counts, and whether that is known is said', async () => {
    const { ask, ollama, agent, hostIntents } = await served();
    const stepsOf = async () => {
      const { plan, intentsKnown } = (await ask('/v1/plan?model=llava:7b')).body as PlanPreview;
      return {
        steps: plan.kind === 'plan' ? plan.steps.map(({ kind, tenant }) => `${kind} ${tenant}`) : [],
        intentsKnown,
      };
    };
    expect(await stepsOf()).toEqual({ steps: ['load model/llava:7b'], intentsKnown: false });
    // Somebody has moved the embedder by hand; a worker that died has put it on the CPU since.
    hostIntents.mockResolvedValue({ ...noIntents(), embedderByHand: 'cuda' });
    const known = await stepsOf();
    expect(known.intentsKnown).toBe(true);
    expect(known.steps).toEqual(['load model/llava:7b', 'move embedder/clip']);
    expect([ollama.calls, agent.mode]).toEqual([[], 'idle']);
    expect((await ask('/v1/status')).status).toBe(200);
    expect(hostIntents).toHaveBeenCalledTimes(2);
  });

  it.each([
    '/v1/plan',
    '/v1/plan?mode=idle&model=x',
    '/v1/plan?clip=tpu',
    '/v1/journal?after=-1',
    '/v1/journal?limit=0',
    '/v1/journal?limit=x',
    '/v1/journal?type=operations',
    '/v1/can-fit',
    '/v1/can-fit?mb=-1',
    '/v1/can-fit?mb=',
    '/v1/events?after=x',
  ])('not so: %s', async (url) => {
    const { ask } = await served();
    expect(await ask(url)).toMatchObject({
      status: 400,
      body: { error: { code: 'bad-input', message: expect.any(String) } },
    });
  });

  it.each([
    ['/v1/generate', { model: NAME }],
    ['/v1/generate', { model: NAME, prompt: 'x', command: 'rm' }],
    ['/v1/generate', { model: NAME, prompt: 'x', images: ['not base64!'] }],
    ['/v1/embed', {}],
    ['/v1/embed', { texts: [] }],
    ['/v1/embed', { texts: ['a'], images: ['AAAA'] }],
    ['/v1/embed', { texts: Array.from({ length: 257 }, () => 'a') }],
  ])('not with such a body: %s %#', async (url, payload) => {
    const { ask, ollama, load } = await served();
    expect(await ask(url, post(payload))).toMatchObject({ status: 400, body: { error: { code: 'bad-input' } } });
    expect([ollama.calls, load.mock.calls]).toEqual([[], []]);
  });

  it('not with a body that is no JSON, and nothing that is not there', async () => {
    const { ask } = await served();
    const headers = { 'content-type': 'application/json' };
    expect(await ask('/v1/embed', { method: 'POST', payload: '{"texts":', headers })).toMatchObject({ status: 400 });
    expect(await ask('/v1/nothing')).toMatchObject({ status: 404, body: { error: { code: 'not-found' } } });
  });

  it('the journal, after a sequence', async () => {
    const { ask, agent } = await served();
    for (const message of ['a', 'b', 'c']) agent.journal.append({ type: 'warning', message });
    const entries = (await ask('/v1/journal?after=1&limit=1')).body as JournalEntry[];
    expect(entries.map(({ message }) => message)).toEqual(['b']);
  });

  it('the journal of one type: what else came since does not count', async () => {
    const { ask, agent } = await served();
    for (const message of ['a', 'b', 'c']) agent.journal.append({ type: 'operation', message });
    for (let n = 0; n < 300; n += 1) agent.journal.append({ type: 'vram_changed', message: 'chatter' });
    const entries = (await ask('/v1/journal?type=operation&limit=2')).body as JournalEntry[];
    expect(entries.map(({ message }) => message)).toEqual(['b', 'c']);
  });
});

describe('embeddings', () => {
  it('come from the device where the embedder is', async () => {
    const { ask } = await served();
    expect((await ask('/v1/embed', post({ texts: ['a', 'b'] }))).body).toEqual({
      embeddings: [
        [0.6, 0.8],
        [0.6, 0.8],
      ],
      dimension: 2,
      device: 'cpu',
    });
    expect(await ask('/v1/embed', post({ images: ['AAAA'] }))).toMatchObject({ status: 200 });
  });

  it('are not there without the part, which is named', async () => {
    const { ask } = await served({ clip: false });
    expect(await ask('/v1/embed', post({ texts: ['a'] }))).toMatchObject({
      status: 503,
      body: { error: { code: 'clip-unavailable', message: 'install it' } },
    });
  });
});

describe('an answer of a model (M13)', () => {
  const ask = (one: Served, model = NAME) => one.ask('/v1/generate', post({ model, prompt: 'Hi' }));

  it('comes after the load that it needs, in lines', async () => {
    const one = await served();
    const { status, text } = await ask(one, 'Qwen3-VL:8B');
    expect(status).toBe(200);
    expect(linesOf(text)).toEqual([
      { progress: { state: 'loading', message: expect.any(String), workflowId: 'model/load' } },
      { progress: { state: 'ready', message: expect.any(String), workflowId: null } },
      { text: 'Hello', done: false },
      { text: '', done: true, tokens: 1 },
    ]);
    expect(one.agent.gates.uses(`model/${NAME}`)).toBe(0);
  });

  it('does not come from a model that the configuration has not (law 12)', async () => {
    const one = await served();
    expect(await ask(one, 'mistral:7b')).toMatchObject({
      status: 404,
      body: { error: { code: 'UnknownTenant', remedy: expect.stringContaining(NAME) } },
    });
    expect([one.ollama.calls, one.load.mock.calls]).toEqual([[], []]);
  });

  it('ends with the error in a line of its own; the use has ended too', async () => {
    const one = await served();
    one.ollama.put(NAME);
    await one.agent.watch.look();
    one.ollama.onGenerate = async function* () {
      yield { text: 'Hel', done: false };
      throw new OllamaError('out-of-memory', 'No room', 'Free some.');
    };
    expect(linesOf((await ask(one)).text).slice(1)).toEqual([
      { text: 'Hel', done: false },
      { error: { code: 'ollama-out-of-memory', message: 'No room. Free some.', remedy: 'Free some.' } },
    ]);
    expect(one.agent.gates.uses(`model/${NAME}`)).toBe(0);
  });

  it('ends when its client leaves, and is cut off by an unload after the grace', async () => {
    const one = await served();
    one.ollama.put(NAME);
    await one.agent.watch.look();
    const signals: AbortSignal[] = [];
    let begun: () => void = () => {};
    one.ollama.onGenerate = async function* (signal) {
      signals.push(signal);
      begun();
      yield { text: 'H', done: false };
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    await one.server.listen({ host: '127.0.0.1', port: 0 });
    const base = `http://127.0.0.1:${(one.server.server.address() as AddressInfo).port}`;
    const generate = (signal: AbortSignal) =>
      fetch(`${base}/v1/generate`, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: NAME, prompt: 'Hi' }),
        signal,
      });
    const started = () => new Promise<void>((resolve) => (begun = resolve));

    const leaves = new AbortController();
    const first = started();
    const leaving = generate(leaves.signal).then((answer) => answer.text());
    leaving.catch(() => {});
    await first;
    const aborted = new Promise((resolve) => signals[0]?.addEventListener('abort', resolve));
    leaves.abort();
    await aborted;
    await expect(leaving).rejects.toThrow();
    await vi.waitFor(() => expect(one.agent.gates.uses(`model/${NAME}`)).toBe(0));

    const second = started();
    const cut = generate(AbortSignal.timeout(5_000)).then((answer) => answer.text());
    await second;
    one.agent.closeGate(`model/${NAME}`, 'an unload');
    expect(await one.agent.gates.drain(`model/${NAME}`, 10, AbortSignal.timeout(5_000))).toBe(1);
    expect(linesOf(await cut).at(-1)).toMatchObject({ error: { message: expect.stringContaining('grace') } });
  });
});

describe('events', () => {
  /** Follows the stream; `next` gives the events one by one. */
  async function follow({ server }: Served, path: string, headers: Record<string, string> = {}) {
    if (server.server.address() === null) await server.listen({ host: '127.0.0.1', port: 0 });
    const { port } = server.server.address() as AddressInfo;
    const request = get({ host: '127.0.0.1', port, path, headers: { authorization: `Bearer ${TOKEN}`, ...headers } });
    const answer = await new Promise<IncomingMessage>((resolve) => request.once('response', resolve));
    answer.setEncoding('utf8');
    let text = '';
    const events = async function* () {
      try {
        for await (const chunk of answer) {
          text += chunk as string;
          for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
            const [id, event, data] = text.slice(0, end).split('\n');
            text = text.slice(end + 2);
            const { message } = JSON.parse((data ?? '').replace('data: ', '')) as JournalEntry;
            yield `${id} ${event} ${message}`;
          }
        }
      } catch (error) {
        if (!request.destroyed) throw error;
      }
    };
    const stream = events();
    const next = async (count: number): Promise<string[]> => {
      const list: string[] = [];
      while (list.length < count) list.push((await stream.next()).value as string);
      return list;
    };
    return { answer, next, close: () => request.destroy() };
  }

  const say = ({ agent }: Served, message: string) => agent.journal.append({ type: 'warning', message });

  it('are what is there, then what comes', async () => {
    const one = await served();
    say(one, 'a');
    const { next, answer, close } = await follow(one, '/v1/events');
    expect(answer.headers['content-type']).toBe('text/event-stream');
    expect(await next(1)).toEqual(['id: 1 event: warning a']);
    say(one, 'b');
    say(one, 'c');
    expect(await next(2)).toEqual(['id: 2 event: warning b', 'id: 3 event: warning c']);
    close();
  });

  it('go on after what was seen: none is lost, none comes twice', async () => {
    const one = await served();
    for (const message of ['a', 'b', 'c']) say(one, message);
    const after = await follow(one, '/v1/events?after=2');
    expect(await after.next(1)).toEqual(['id: 3 event: warning c']);
    after.close();
    say(one, 'd');
    // As a browser does it: the address as at first, and what it has seen last.
    const again = await follow(one, '/v1/events?after=2', { 'last-event-id': '3' });
    expect(await again.next(1)).toEqual(['id: 4 event: warning d']);
    again.close();
  });

  it('leave nothing behind when the reader goes', async () => {
    const one = await served();
    const stopped = vi.fn();
    const listening = vi.spyOn(one.agent.journal, 'onEntry').mockReturnValue(stopped);
    const { close } = await follow(one, '/v1/events');
    expect(listening).toHaveBeenCalledOnce();
    close();
    await vi.waitFor(() => expect(stopped).toHaveBeenCalledOnce());
    say(one, 'into nothing');
  });
});

describe('a client that does not read', () => {
  const LARGE = 'x'.repeat(128 * 1024);
  const COUNT = 200;
  /** One entry or chunk, and what the connection keeps for itself. */
  const MOST_HELD = 2 * LARGE.length;

  /** Sends a request and reads nothing; says what the answer holds in memory at most, and when it is let go. */
  async function stubborn({ server }: Served, method: string, path: string, body = '') {
    await server.listen({ host: '127.0.0.1', port: 0 });
    const { port } = server.server.address() as AddressInfo;
    const answering = new Promise<ServerResponse>((resolve) =>
      server.server.once('request', (_request, answer) => resolve(answer)),
    );
    const socket = connect(port, '127.0.0.1').pause();
    onTestFinished(() => void socket.destroy());
    const headers = [
      'host: 127.0.0.1',
      `authorization: Bearer ${TOKEN}`,
      'content-type: application/json',
      `content-length: ${body.length}`,
    ];
    socket.write(`${method} ${path} HTTP/1.1\r\n${headers.join('\r\n')}\r\n\r\n${body}`);
    const answer = await answering;
    const held: number[] = [];
    const write = answer.write.bind(answer) as (text: string) => boolean;
    vi.spyOn(answer, 'write').mockImplementation((text: string) => {
      const hasRoom = write(text);
      held.push(answer.writableLength);
      return hasRoom;
    });
    return {
      socket,
      held,
      letGo: async () => {
        while (!answer.destroyed) await vi.advanceTimersByTimeAsync(30_000);
      },
    };
  }

  const fakeTime = () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
  };

  const fill = ({ agent }: Served) => {
    for (let n = 0; n < COUNT; n += 1) agent.journal.append({ type: 'warning', message: `${n} ${LARGE}` });
  };

  it('of events: the journal holds them, not the memory; after a while it is let go', async () => {
    const one = await served();
    fill(one);
    fakeTime();
    const { held, letGo } = await stubborn(one, 'GET', '/v1/events');
    await letGo();
    expect(held.length).toBeLessThan(COUNT);
    expect(Math.max(...held)).toBeLessThan(MOST_HELD);
  });

  it('of events, and then does: gets every one', async () => {
    const one = await served();
    fill(one);
    const { held, socket } = await stubborn(one, 'GET', '/v1/events');
    await vi.waitFor(() => expect(held.length).toBeGreaterThan(0));
    one.agent.journal.append({ type: 'warning', message: 'the last' });
    const ids: number[] = [];
    for await (const line of createInterface(socket)) {
      if (line.startsWith('id: ')) ids.push(Number(line.slice('id: '.length)));
      if (ids.length > COUNT) break;
    }
    expect(ids).toEqual(Array.from({ length: COUNT + 1 }, (_, n) => n + 1));
    expect(Math.max(...held)).toBeLessThan(MOST_HELD);
  });

  it('of a model: the model is not asked for more, and its use ends when the client is let go', async () => {
    const one = await served();
    one.ollama.put(NAME);
    await one.agent.watch.look();
    let made = 0;
    one.ollama.onGenerate = async function* () {
      for (; made < COUNT; made += 1) yield { text: LARGE, done: false };
    };
    fakeTime();
    const body = JSON.stringify({ model: NAME, prompt: 'Hi' });
    const { held, letGo } = await stubborn(one, 'POST', '/v1/generate', body);
    await letGo();
    expect(made).toBeLessThan(COUNT);
    expect(Math.max(...held)).toBeLessThan(MOST_HELD);
    await vi.waitFor(() => expect(one.agent.gates.uses(`model/${NAME}`)).toBe(0));
  });
});
