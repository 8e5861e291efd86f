import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, type TestContext, test, vi } from 'vitest';
import { createOllama, type Ollama, type ResidentModel } from '../../src/adapters/ollama/ollama.js';
import { type Missing, requirePart } from '../parts/parts.js';

/** A running Ollama, real or simulated, that nobody else uses. */
export interface OllamaUnderTest {
  endpoint: string;
  /** Installed: two that generate and one that embeds only; the first two fit side by side. */
  models: { first: string; second: string; embedder: string };
  /** Installed models of which all but the last fit side by side, by whatever limit this server has. */
  crowd: string[];
  /** Seconds of the server's clock in a second: 1 for a real one. */
  speed: number;
  stop(): Promise<void>;
}

/** Far more tokens than any test waits for. */
const ENDLESS = { num_predict: 20_000, seed: 1 };
const LONG = '24h';
/** A load takes a third of a second: a test that must act within it may come too late on a busy machine. */
const DURING_LOAD = { retry: 2 };

/**
 * What vramflow relies on, as a real Ollama was seen to do it (0.6.5 on a CPU). Each test runs unchanged against the real
 * server and against the simulator, so the simulator cannot flatter.
 */
export function describeOllamaContract(name: string, start: () => Promise<OllamaUnderTest | Missing>): void {
  describe(`the Ollama contract, ${name}`, () => {
    let found: OllamaUnderTest | Missing | undefined;
    let server: OllamaUnderTest;
    let ollama: Ollama;

    beforeAll(async () => {
      found = requirePart(`Ollama (${name})`, await start());
    });

    afterAll(async () => {
      if (found !== undefined && 'stop' in found) await found.stop();
    });

    beforeEach((context: TestContext) => {
      if (found === undefined) throw new Error('It was not started.');
      if ('skip' in found) return context.skip(found.skip);
      server = found;
      ollama = createOllama(server.endpoint);
    });

    afterEach(async () => {
      if (found === undefined || 'skip' in found) return;
      for (const { name } of await ollama.resident(soon())) await ollama.unload(name, { signal: soon() });
      await eventually(async () => expect(await resident()).toEqual([]));
    });

    const resident = async () => (await ollama.resident(soon())).map((model) => model.name).sort();

    async function line(model: string): Promise<ResidentModel> {
      const found = (await ollama.resident(soon())).find((one) => one.name === model);
      if (found === undefined) throw new Error(`${model} is not listed.`);
      return found;
    }

    /** On the server's clock. */
    const secondsLeft = (model: ResidentModel) => ((model.expiresAt - Date.now()) / 1000) * server.speed;

    const load = (model: string, keepAlive = LONG) => ollama.load(model, { signal: soon(), keepAlive });

    async function post(path: string, body: object): Promise<Record<string, unknown>> {
      const response = await fetch(server.endpoint + path, {
        method: 'POST',
        body: JSON.stringify(body),
        signal: soon(),
      });
      expect(response.status).toBe(200);
      return (await response.json()) as Record<string, unknown>;
    }

    /** A stream that has begun, so the server is at work on it. */
    async function begin(model: string, signal: AbortSignal, keepAlive = LONG) {
      const stream = ollama.generate(model, 'Hi', { signal, keepAlive, options: ENDLESS })[Symbol.asyncIterator]();
      expect((await stream.next()).done).toBe(false);
      return stream;
    }

    test('tells its version', async () => {
      expect(await ollama.version(soon())).toMatch(/^\d+\.\d+\.\d+/);
    });

    test('lists what is installed, and which models only embed', async () => {
      const installed = new Map((await ollama.installed(soon())).map((model) => [model.name, model]));
      const { first, second, embedder } = server.models;
      expect([first, second, embedder].map((model) => installed.get(model)?.embeddingOnly)).toEqual([
        false,
        false,
        true,
      ]);
      for (const model of installed.values()) expect(model.sizeMb).toBeGreaterThan(0);
    });

    test('loads by an empty request, for as long as told', async () => {
      expect(await resident()).toEqual([]);
      await load(server.models.first, '20m');
      expect(await resident()).toEqual([server.models.first]);
      const model = await line(server.models.first);
      expect(model.sizeMb).toBeGreaterThan(0);
      expect(model.vramMb).toBeLessThanOrEqual(model.sizeMb);
      expect(secondsLeft(model)).toBeGreaterThan(1100);
      expect(secondsLeft(model)).toBeLessThanOrEqual(1201);
    });

    test('finds a model by other spellings of its name, and lists it by its own', async () => {
      const { first } = server.models;
      const spellings = [first.replace(/:latest$/, ''), `library/${first}`, `registry.ollama.ai/library/${first}`];
      for (const spelling of [...spellings, first.toUpperCase()]) await load(spelling);
      expect(await resident()).toEqual([first]);
    });

    test('loads and probes a model that only embeds', async () => {
      const { embedder } = server.models;
      await load(embedder);
      expect(await resident()).toEqual([embedder]);
      await ollama.probe(embedder, { signal: soon(), keepAlive: LONG });
      const refused = collect(ollama.generate(embedder, 'Hi', { signal: soon() }));
      await expect(refused).rejects.toMatchObject({ kind: 'http', status: 400 });
    });

    test('answers a probe, and the probe leaves size and keep-alive as they are', async () => {
      const { first } = server.models;
      await load(first);
      const before = await line(first);
      await ollama.probe(first, { signal: soon(), keepAlive: LONG });
      const after = await line(first);
      expect(after.sizeMb).toBe(before.sizeMb);
      expect(after.expiresAt).toBeGreaterThanOrEqual(before.expiresAt);
      expect(secondsLeft(after)).toBeGreaterThan(23 * 3600);
    });

    test('lists a model from the moment its load begins', DURING_LOAD, async () => {
      const { first } = server.models;
      let loaded = false;
      const loading = load(first).then(() => {
        loaded = true;
      });
      await eventually(async () => expect(await resident()).toEqual([first]));
      expect(loaded).toBe(false);
      await loading;
    });

    test('unloads on request, and has nothing against unloading what is not there', async () => {
      const { first, embedder } = server.models;
      for (const model of [first, embedder]) {
        await load(model);
        await ollama.unload(model, { signal: soon() });
        await eventually(async () => expect(await resident()).toEqual([]));
        await ollama.unload(model, { signal: soon() });
        expect(await resident()).toEqual([]);
      }
    });

    test('does not know a model that is not installed', async () => {
      const missing = { kind: 'model-missing', status: 404 };
      const options = { signal: soon(), keepAlive: LONG };
      await expect(ollama.load('no-such-model', options)).rejects.toMatchObject(missing);
      await expect(ollama.unload('no-such-model', options)).rejects.toMatchObject(missing);
      await expect(ollama.probe('no-such-model', options)).rejects.toMatchObject(missing);
      await expect(collect(ollama.generate('no-such-model', 'Hi', options))).rejects.toMatchObject(missing);
    });

    test('loads by itself for any request, for five minutes', async () => {
      const { first, second, embedder } = server.models;
      await collect(ollama.generate(first, 'Hi', { signal: soon(), options: { num_predict: 1 } }));
      await post('/api/chat', {
        model: second,
        messages: [{ role: 'user', content: 'Hi' }],
        stream: false,
        options: { num_predict: 1 },
      });
      for (const model of [first, second]) expectFiveMinutes(secondsLeft(await line(model)));
      await ollama.unload(first, { signal: soon() });
      await eventually(async () => expect(await resident()).toEqual([second]));
      await post('/api/embed', { model: embedder, input: 'Hi' });
      expectFiveMinutes(secondsLeft(await line(embedder)));
    });

    test('loads anew for another context: another size, and five minutes again unless told', async () => {
      const { first } = server.models;
      await load(first);
      const before = await line(first);
      const options = { num_predict: 1, num_ctx: 8192 };
      await collect(ollama.generate(first, 'Hi', { signal: soon(), options }));
      const bigger = await line(first);
      expect(bigger.sizeMb).toBeGreaterThan(before.sizeMb);
      expectFiveMinutes(secondsLeft(bigger));
      await load(first);
      const again = await line(first);
      expect(again.sizeMb).toBe(before.sizeMb);
      expect(secondsLeft(again)).toBeGreaterThan(23 * 3600);
    });

    test('starts the keep-alive again with each request, and keeps its length unless told', async () => {
      const { first } = server.models;
      await load(first, '20m');
      const loaded = await line(first);
      const options = { num_predict: 1 };
      await collect(ollama.generate(first, 'Hi', { signal: soon(), options }));
      const used = await line(first);
      expect(used.expiresAt).toBeGreaterThan(loaded.expiresAt);
      expect(secondsLeft(used)).toBeGreaterThan(1100);
      await collect(ollama.generate(first, 'Hi', { signal: soon(), options, keepAlive: '40m' }));
      expect(secondsLeft(await line(first))).toBeGreaterThan(2300);
    });

    test('drops a model when its keep-alive ends', async () => {
      await load(server.models.first, '1s');
      await eventually(async () => expect(await resident()).toEqual([]));
    });

    test('streams an answer in chunks, the last with the number of tokens', async () => {
      const options = { num_predict: 60, seed: 1 };
      const chunks = await collect(ollama.generate(server.models.first, 'Hi', { signal: soon(), options }));
      expect(chunks.length).toBeGreaterThan(2);
      expect(chunks.map((chunk) => chunk.done)).toEqual([...chunks.slice(1).map(() => false), true]);
      expect(chunks.at(-1)?.tokens).toBe(60);
      expect(chunks.map((chunk) => chunk.text).join('')).not.toBe('');
    });

    test('lets a request in flight end before it unloads; a disconnect ends the request', async () => {
      const { first } = server.models;
      const caller = new AbortController();
      const stream = await begin(first, caller.signal);
      await ollama.unload(first, { signal: soon() });
      expect((await stream.next()).done).toBe(false);
      expect(await resident()).toEqual([first]);
      caller.abort();
      await expect(drain(stream)).rejects.toMatchObject({ kind: 'aborted' });
      await eventually(async () => expect(await resident()).toEqual([]));
    });

    test('ends a request whose caller leaves the loop', async () => {
      const { first } = server.models;
      const stream = await begin(first, soon(), '1s');
      await stream.return?.();
      await eventually(async () => expect(await resident()).toEqual([]));
    });

    test('lets a load under way end before it unloads', DURING_LOAD, async () => {
      const { first } = server.models;
      const loading = load(first);
      await eventually(async () => expect(await resident()).toEqual([first]));
      await ollama.unload(first, { signal: soon() });
      await loading; // It ends well, though its model leaves at once.
      await eventually(async () => expect(await resident()).toEqual([]));
    });

    test('forgets an unload that still waits when a request with a keep-alive comes', async () => {
      const { first } = server.models;
      const caller = new AbortController();
      const stream = await begin(first, caller.signal);
      await ollama.unload(first, { signal: soon() });
      await ollama.probe(first, { signal: soon(), keepAlive: LONG });
      caller.abort();
      await expect(drain(stream)).rejects.toMatchObject({ kind: 'aborted' });
      await ollama.probe(first, { signal: soon(), keepAlive: LONG });
      expect(secondsLeft(await line(first))).toBeGreaterThan(23 * 3600);
    });

    test('cancels a load whose caller disconnects', DURING_LOAD, async () => {
      const { first } = server.models;
      const caller = new AbortController();
      const loading = ollama.load(first, { signal: caller.signal, keepAlive: LONG });
      await eventually(async () => expect(await resident()).toEqual([first]));
      caller.abort(new DOMException('time is up', 'TimeoutError'));
      await expect(loading).rejects.toMatchObject({ kind: 'timeout' });
      await eventually(async () => expect(await resident()).toEqual([]));
      await load(first);
      expect(await resident()).toEqual([first]);
    });

    test('serves many requests for a model that loads, with one load', async () => {
      const { first } = server.models;
      const options = { num_predict: 1 };
      await Promise.all([
        load(first),
        load(first),
        ollama.probe(first, { signal: soon(), keepAlive: LONG }),
        collect(ollama.generate(first, 'Hi', { signal: soon(), options, keepAlive: LONG })),
      ]);
      expect(await resident()).toEqual([first]);
    });

    test('goes on with one request when another is aborted', async () => {
      const { first } = server.models;
      await load(first);
      const caller = new AbortController();
      const [aborted, kept] = [await begin(first, caller.signal), await begin(first, soon())];
      caller.abort();
      await expect(drain(aborted)).rejects.toMatchObject({ kind: 'aborted' });
      for (let chunk = 0; chunk < 20; chunk += 1) expect((await kept.next()).done).toBe(false);
      await kept.return?.();
    });

    test(
      'answers a load that comes too soon after a cancelled one, and drops the model all the same',
      DURING_LOAD,
      async () => {
        const { first } = server.models;
        const caller = new AbortController();
        const cancelled = ollama.load(first, { signal: caller.signal, keepAlive: LONG });
        await eventually(async () => expect(await resident()).toEqual([first]));
        caller.abort();
        const next = load(first);
        await expect(cancelled).rejects.toMatchObject({ kind: 'aborted' });
        await next; // Says that it is loaded.
        await eventually(async () => expect(await resident()).toEqual([]));
        await load(first); // Now that the cancelled one is off the list, it stays.
        expect(await resident()).toEqual([first]);
      },
    );

    test('makes room by itself: it drops the idle model with the shortest keep-alive', async () => {
      const crowd = [...server.crowd];
      const last = crowd.pop() ?? '';
      const victim = crowd.at(-1) ?? '';
      for (const model of crowd) await load(model, model === victim ? '10m' : '20m');
      expect(await resident()).toEqual([...crowd].sort());
      await load(last, '20m');
      expect(await resident()).toEqual([...crowd.slice(0, -1), last].sort());
    });

    test('embeds: unit vectors, the same for the same text', async () => {
      const { embedder } = server.models;
      const answer = await post('/api/embed', { model: embedder, input: ['a cat', 'a cat', 'the moon'] });
      const [cat = [], again = [], moon = []] = answer['embeddings'] as number[][];
      expect(Math.hypot(...cat)).toBeCloseTo(1, 3);
      expect(dot(cat, again)).toBeCloseTo(1, 3);
      expect(dot(cat, moon)).toBeLessThan(0.9999);
    });

    /** Bounds a call; a hang is then an error that names it. */
    function soon(): AbortSignal {
      return AbortSignal.timeout(20_000);
    }
  });
}

/** The API has no event for what it does later; so ask until it is true, at most ten seconds. */
async function eventually(check: () => Promise<void>): Promise<void> {
  await vi.waitFor(check, { timeout: 10_000, interval: 5 });
}

function expectFiveMinutes(seconds: number): void {
  expect(seconds).toBeGreaterThan(250);
  expect(seconds).toBeLessThanOrEqual(301);
}

async function collect<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const chunks: T[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

async function drain(stream: AsyncIterator<unknown>): Promise<void> {
  while (!(await stream.next()).done);
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, index) => sum + value * (b[index] ?? 0), 0);
}
