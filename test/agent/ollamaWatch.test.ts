import { afterEach, describe, expect, it, vi } from 'vitest';
import type { OllamaServer } from '../../src/agent/ollamaServer.js';
import { type OllamaChange, OllamaWatch } from '../../src/agent/ollamaWatch.js';
import { FakeOllama } from './pieces.js';

afterEach(() => {
  vi.useRealTimers();
});

const A = 'model/a:latest';

function watching(
  ollama = new FakeOllama(),
  onChange?: (change: OllamaChange) => void,
  server?: () => OllamaServer | null,
) {
  const changes: OllamaChange[] = [];
  const clock = { now: 1_000 };
  const told = onChange ?? ((change) => changes.push(change));
  const watch = new OllamaWatch(ollama, 'observed', told, () => clock.now, server);
  /** Looks, and says what was told. */
  const look = async () => {
    await watch.look();
    return changes.splice(0);
  };
  return { ollama, watch, look, clock };
}

describe('the watch on Ollama', () => {
  it('knows nothing before the first look, and tells nothing of what it finds first', async () => {
    const { ollama, watch, look } = watching();
    expect(watch.driver()).toMatchObject({ available: false, reason: 'not asked yet', version: null });
    ollama.put('A');
    expect(await look()).toEqual([]);
    expect(watch.driver()).toEqual({
      id: 'ollama',
      available: true,
      reason: null,
      placement: 'observed',
      version: '0.6.5',
    });
    expect(watch.resident()).toMatchObject([{ id: A, model: { name: 'a:latest' }, residentForMs: 0 }]);
  });

  it('tells once that Ollama is away, and once that it is back (M16)', async () => {
    const { ollama, watch, look } = watching();
    await look();
    ollama.isAway = true;
    expect(await look()).toEqual([{ kind: 'away', reason: expect.stringContaining('Nobody listens') }]);
    expect(await look()).toEqual([]);
    expect(watch.driver().available).toBe(false);
    ollama.isAway = false;
    expect(await look()).toEqual([{ kind: 'back' }]);
    expect(await look()).toEqual([]);
  });

  it('tells that Ollama is away at the first look too; what is there when it answers may have been there before', async () => {
    const { ollama, look } = watching();
    ollama.put('a');
    ollama.isAway = true;
    expect(await look()).toMatchObject([{ kind: 'away' }]);
    expect(await look()).toEqual([]);
    ollama.isAway = false;
    expect(await look()).toEqual([{ kind: 'back' }]);
    ollama.put('b');
    expect(await look()).toEqual([{ kind: 'appeared', tenant: 'model/b:latest' }]);
  });

  it.each<[OllamaServer['state'], OllamaChange[]]>([
    ['stopped', [{ kind: 'back' }, { kind: 'appeared', tenant: A }]],
    ['starting', [{ kind: 'back' }]],
  ])('knows that a service which is %s at the first look holds no model, or does not know', async (state, told) => {
    let server: OllamaServer | null = { service: 'box', state };
    const { ollama, look } = watching(new FakeOllama(), undefined, () => server);
    ollama.put('a');
    ollama.isAway = true;
    expect(await look()).toEqual([]);
    server = null;
    ollama.isAway = false;
    expect(await look()).toEqual(told);
  });

  it('keeps what was there while Ollama is away: it has not left', async () => {
    const { ollama, watch, look } = watching();
    ollama.put('a');
    await look();
    ollama.isAway = true;
    await look();
    expect(watch.resident().map(({ id }) => id)).toEqual([A]);
    ollama.isAway = false;
    expect(await look()).toEqual([{ kind: 'back' }]);
  });

  it('tells what died with its server from what somebody took away', async () => {
    const { ollama, look } = watching();
    ollama.put('a');
    await look();
    ollama.isAway = true;
    await look();
    ollama.isAway = false;
    ollama.drop('a');
    expect(await look()).toEqual([{ kind: 'back' }, { kind: 'gone', tenant: A, died: true, expired: false }]);
    ollama.put('a');
    expect(await look()).toEqual([{ kind: 'appeared', tenant: A }]);
    ollama.drop('a');
    expect(await look()).toEqual([{ kind: 'gone', tenant: A, died: false, expired: false }]);
  });

  it('tells that a keep-alive ran out', async () => {
    const { ollama, look, clock } = watching();
    ollama.put('a', { expiresAt: 9_000 });
    await look();
    ollama.drop('a');
    clock.now = 9_000;
    expect(await look()).toEqual([{ kind: 'gone', tenant: A, died: false, expired: true }]);
  });

  it('takes a moved expiry for a use, both ways, but not a rounding of it', async () => {
    const { ollama, look } = watching();
    ollama.put('a', { expiresAt: 50_000 });
    await look();
    expect(await look()).toEqual([]);
    ollama.put('a', { expiresAt: 50_020 });
    expect(await look()).toEqual([]);
    ollama.put('a', { expiresAt: 60_000 });
    expect(await look()).toEqual([{ kind: 'used', tenant: A }]);
    ollama.put('a', { expiresAt: 20_000 });
    expect(await look()).toEqual([{ kind: 'used', tenant: A }]);
  });

  it('counts the time of residence anew for a model that came back', async () => {
    const { ollama, watch, look, clock } = watching();
    ollama.put('a');
    await look();
    clock.now = 5_000;
    expect(watch.resident()[0]?.residentForMs).toBe(4_000);
    ollama.drop('a');
    await look();
    ollama.put('a');
    await look();
    expect(watch.resident()[0]?.residentForMs).toBe(0);
  });

  it('answers a caller with a look that began after it asked', async () => {
    const { ollama, watch } = watching();
    const answers: ((answer: []) => void)[] = [];
    ollama.resident = () => new Promise((resolve) => answers.push(resolve));
    const done: string[] = [];
    const first = watch.look().then(() => done.push('first'));
    const others = [watch.look(), watch.look()].map((look, n) => look.then(() => done.push(`other ${n}`)));
    await new Promise(setImmediate);
    expect(answers).toHaveLength(1);
    answers[0]?.([]);
    await first;
    await new Promise(setImmediate);
    expect(done).toEqual(['first']);
    expect(answers).toHaveLength(2);
    answers[1]?.([]);
    await Promise.all(others);
    expect(answers).toHaveLength(2);
  });

  it('models end with the service that Ollama runs in, and that it does not answer then is no news', async () => {
    let server: OllamaServer | null = null;
    const { ollama, watch, look } = watching(new FakeOllama(), undefined, () => server);
    ollama.put('a');
    await look();
    watch.markProven(A, []);
    const is = (state: OllamaServer['state']) => (server = { service: 'box', state });
    is('stopping');
    ollama.isAway = true;
    expect(await look()).toEqual([]);
    expect(watch.driver()).toMatchObject({ available: false, reason: 'its service box is stopping', resting: true });
    expect(watch.resident()).toHaveLength(1);
    is('stopped');
    // At once, not only from the next look on.
    expect(watch.resident()).toEqual([]);
    expect(watch.driver()).toMatchObject({ available: false, reason: 'its service box is stopped', resting: true });
    expect(await look()).toEqual([{ kind: 'gone', tenant: A, died: false, expired: false, stopped: true }]);
    expect(await look()).toEqual([]);
    is('starting');
    expect(await look()).toEqual([]);
    server = null;
    expect(await look()).toMatchObject([{ kind: 'away' }]);
    ollama.isAway = false;
    expect(await look()).toEqual([{ kind: 'back' }, { kind: 'appeared', tenant: A }]);
    expect(watch.resident()).toMatchObject([{ proven: false }]);
  });

  it('models die with a service that dies, and that is a trouble', async () => {
    let server: OllamaServer | null = null;
    const { ollama, watch, look } = watching(new FakeOllama(), undefined, () => server);
    ollama.put('a');
    await look();
    server = { service: 'box', state: 'failed' };
    expect(watch.driver()).toMatchObject({ available: false, reason: 'its service box has failed' });
    expect(watch.driver().resting).toBeUndefined();
    expect(await look()).toEqual([{ kind: 'gone', tenant: A, died: true, expired: false }]);
  });

  it('does not take what a listener throws for a word of Ollama', async () => {
    const { ollama, watch } = watching(new FakeOllama(), ({ kind }) => {
      throw new Error(`no room on the disk for ${kind}`);
    });
    await watch.look();
    ollama.put('a');
    await expect(watch.look()).rejects.toThrow('no room on the disk for appeared');
    expect(watch.driver().available).toBe(true);
  });

  it('looks again and again until it is stopped, and tells nothing afterwards', async () => {
    vi.useFakeTimers();
    const { ollama, watch, look } = watching();
    ollama.put('a');
    const asked = vi.spyOn(ollama, 'resident');
    watch.start(1_000);
    await vi.advanceTimersByTimeAsync(2_500);
    expect(asked).toHaveBeenCalledTimes(3);
    let answer: (models: []) => void = () => {};
    asked.mockImplementation(() => new Promise((resolve) => (answer = resolve)));
    await vi.advanceTimersByTimeAsync(1_000);
    watch.stop();
    answer([]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(asked).toHaveBeenCalledTimes(4);
    asked.mockRestore();
    ollama.drop('a');
    expect(await look()).toEqual([]);
  });
});
