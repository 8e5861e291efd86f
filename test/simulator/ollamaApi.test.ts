import { Agent, fetch, type Response } from 'undici';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { KEYS, TEXTS } from './recordedOllama.js';

let simulator: RunningSimulator;

/** A new connection for each request: the server goes away in some of these tests. */
const dispatcher = new Agent({ pipelining: 0 });

beforeAll(async () => {
  simulator = await startSimulator({ preset: 'rtx4090', speed: 20 });
});

afterEach(async () => {
  simulator.faults.clear();
  if (!simulator.ollama.running) await simulator.ollama.start();
});

afterAll(() => simulator.stop());

function post(path: string, body: object | string, signal?: AbortSignal): Promise<Response> {
  const init = { dispatcher, method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) };
  return fetch(new URL(path, simulator.info.ollama), signal === undefined ? init : { ...init, signal });
}

async function resident(): Promise<{ name: string; size: number; size_vram: number; expires_at: string }[]> {
  const answer = await fetch(new URL('/api/ps', simulator.info.ollama), { dispatcher });
  return ((await answer.json()) as { models: Awaited<ReturnType<typeof resident>> }).models;
}

async function lines(answer: Response): Promise<Record<string, unknown>[]> {
  const text = await answer.text();
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** The next entry of this kind from now on. */
function next(kind: string): Promise<unknown> {
  const after = simulator.recorder.lastSeq;
  return simulator.recorder.waitFor((entry) => entry.seq > after && entry.kind === kind);
}

describe('as Ollama 0.6.5 was recorded', () => {
  it.each(TEXTS)('%s %s %s', async (method, path, body, status, text) => {
    const init = method === 'POST' ? { dispatcher, method, body } : { dispatcher, method };
    const answer = await fetch(new URL(path, simulator.info.ollama), init);
    expect([answer.status, await answer.text()]).toEqual([status, text]);
  });

  it('answers with the fields of the real one, in their order', async () => {
    const keysOf = async (answer: Promise<Response>): Promise<string[]> =>
      Object.keys((await lines(await answer)).at(-1) ?? {});
    const model = 'llava:7b';
    expect(await keysOf(post('/api/generate', { model }))).toEqual(KEYS.load);
    expect(await keysOf(post('/api/generate', { model, prompt: 'x' }))).toEqual(expect.arrayContaining(KEYS.generated));
    const messages = [{ role: 'user', content: 'x' }];
    expect(await keysOf(post('/api/chat', { model, messages }))).toEqual(expect.arrayContaining(KEYS.chatted));
    expect(await keysOf(post('/api/embed', { model, input: 'x' }))).toEqual(expect.arrayContaining(KEYS.embedded));
    expect(Object.keys((await resident())[0] ?? {})).toEqual(KEYS.ps);
    const tags = (await (await fetch(new URL('/api/tags', simulator.info.ollama), { dispatcher })).json()) as {
      models: object[];
    };
    expect(Object.keys(tags.models[0] ?? {})).toEqual(KEYS.tags);
    expect(await keysOf(post('/api/generate', { model, keep_alive: 0 }))).toEqual(KEYS.load);
    await simulator.recorder.waitFor((entry) => entry.kind === 'gone');
  });
});

describe('requests', () => {
  it('load by themselves, stream or not', async () => {
    const request = { model: 'qwen3-vl:8b', prompt: 'what is this?', options: { num_predict: 3 } };
    const streamed = await lines(await post('/api/generate', request));
    expect(streamed.map(({ done }) => done)).toEqual([false, false, false, true]);
    const whole = await lines(await post('/api/generate', { ...request, stream: false }));
    expect(whole).toHaveLength(1);
    expect(whole[0]).toMatchObject({ done: true, response: 'The window shows' });
    expect((await resident()).map(({ name }) => name)).toContain('qwen3-vl:8b');
  });

  it('stay for ever with a negative keep-alive, and go with 0', async () => {
    await post('/api/generate', { model: 'llava:7b', keep_alive: -1 });
    const [first] = await resident();
    expect(new Date(first?.expires_at ?? 0).getUTCFullYear()).toBeGreaterThan(2300);
    const gone = next('gone');
    const answer = await lines(await post('/api/generate', { model: 'llava:7b', keep_alive: 0 }));
    expect(answer[0]).toMatchObject({ done: true, done_reason: 'unload' });
    await gone;
    expect((await resident()).map(({ name }) => name)).not.toContain('llava:7b');
  });

  it('abort a load when the client leaves', async () => {
    const left = new AbortController();
    const started = next('load-start');
    const request = post('/api/generate', { model: 'qwen2.5:14b' }, left.signal);
    await started;
    const ended = next('load-end');
    const requestEnd = next('request-end');
    const gone = simulator.recorder.waitFor((entry) => entry.kind === 'gone' && entry.model === 'qwen2.5:14b');
    left.abort();
    await expect(request).rejects.toThrow(/abort/);
    expect(await ended).toMatchObject({ model: 'qwen2.5:14b', outcome: 'aborted' });
    expect(await requestEnd).toMatchObject({ aborted: true, status: 499 });
    await gone;
  });

  it('end when the client of a hanging inference leaves, and only then is the model free to go', async () => {
    simulator.faults.set('generate-hang');
    await post('/api/generate', { model: 'nomic-embed-text', keep_alive: '1h' });
    const left = new AbortController();
    const request = post('/api/embed', { model: 'nomic-embed-text', input: 'x' }, left.signal);
    await simulator.recorder.waitFor((entry) => entry.kind === 'load-end' && entry.model.startsWith('nomic'));
    expect((await resident()).map(({ name }) => name)).toContain('nomic-embed-text:latest');
    const ended = next('request-end');
    left.abort();
    await expect(request).rejects.toThrow(/abort/);
    expect(await ended).toMatchObject({ path: '/api/embed', aborted: true });
  });
});

describe('faults', () => {
  it('ollama-unavailable refuses connections, and comes back on the same port', async () => {
    const before = await resident();
    simulator.faults.set('ollama-unavailable');
    await expect(async () => {
      for (;;) await resident();
    }).rejects.toThrow('fetch failed');
    simulator.faults.clear('ollama-unavailable');
    await simulator.ollama.start();
    expect((await resident()).map(({ name }) => name)).toEqual(before.map(({ name }) => name));
  });

  it('ollama-http-error answers 500 as often as asked', async () => {
    simulator.faults.set('ollama-http-error', { count: 1 });
    const statuses = [];
    for (let i = 0; i < 2; i++)
      statuses.push((await fetch(new URL('/api/tags', simulator.info.ollama), { dispatcher })).status);
    expect(statuses).toEqual([500, 200]);
  });

  it('unload-ignored answers like an unload and keeps the model', async () => {
    await post('/api/generate', { model: 'llava:7b' });
    simulator.faults.set('unload-ignored');
    const answer = await lines(await post('/api/generate', { model: 'llava:7b', keep_alive: 0 }));
    expect(answer[0]).toMatchObject({ done_reason: 'unload' });
    expect((await resident()).map(({ name }) => name)).toContain('llava:7b');
  });

  it('runner-crash ends a generation with an error', async () => {
    simulator.faults.set('runner-crash', { count: 1 });
    const answer = await post('/api/generate', { model: 'llava:7b', prompt: 'x', stream: false });
    expect([answer.status, await answer.json()]).toEqual([
      500,
      { error: 'an error was encountered while running the model: unexpected EOF' },
    ]);
  });

  it('partial-offload shows in size_vram', async () => {
    await simulator.ollama.stop(false);
    await simulator.ollama.start();
    simulator.faults.set('partial-offload', { share: 0.5, count: 1 });
    await post('/api/generate', { model: 'llava:7b' });
    const [model] = await resident();
    expect((model?.size_vram ?? 0) / (model?.size ?? 1)).toBeCloseTo(0.5, 1);
  });
});

describe('the server ends', () => {
  it('with its runners, or without: orphans keep their memory', async () => {
    await post('/api/generate', { model: 'llava:7b' });
    await simulator.ollama.stop(true);
    await expect(resident()).rejects.toThrow('fetch failed');
    await simulator.ollama.start();
    expect(await resident()).toEqual([]);
    const orphan = simulator.gpuHost.processes.find(({ kind, ended }) => kind === 'runner' && !ended);
    expect(orphan?.listed).toBe(true);
    const reclaimed = next('reclaimed');
    if (orphan !== undefined) void simulator.gpuHost.end(orphan);
    await reclaimed;
  });
});
