import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { holdersAt } from '../../src/simulator/record.js';
import {
  entriesOf,
  expectNoViolation,
  fromNow,
  heldMb,
  loadedModels,
  type Printed,
  stranger,
} from '../system/judge.js';
import { isQuiet } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const BIG = 'qwen2.5:14b';
const MIDDLE = 'llava:7b';
const SMALL = 'nomic-embed-text:latest';

/** Pains 1 to 4 of what users of other products report: each is a case that must pass here. */
describe('pains of other products: whose memory is when free', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      config: {
        models: {
          [BIG]: { vram_mb: 11_800 },
          [MIDDLE]: { vram_mb: 6400 },
          [SMALL]: { vram_mb: 650, unload_timeout_seconds: 2 },
          'big:70b': { vram_mb: 43_000 },
        },
      },
    });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await isQuiet(system);
    expectNoViolation(system);
    for (const { name } of loadedModels(system)) await system.json(['model', 'unload', name]);
  });
  afterAll(() => system.stop());

  it('pain 1: a request that arrives while its model is being unloaded waits for a new load and succeeds', async () => {
    await system.json(['model', 'load', MIDDLE]);
    // The unload takes its time, so that the request comes in the middle of it.
    system.simulator.faults.set('reclaim-slow', { ms: 1_500 });
    const since = fromNow(system);
    const unload = system.json<Printed>(['model', 'unload', MIDDLE]);
    await system.until('it is being unloaded', () => entriesOf(since(), 'unload-start').length > 0);
    const answer = await system.json<{ text: string }>(['generate', MIDDLE, 'hello']);
    expect(answer.text).toContain('window');
    expect((await unload).outcome.status).toBe('done');
    const order = since().filter(({ kind }) => ['unload-start', 'reclaimed', 'load-start', 'load-end'].includes(kind));
    expect(order.map(({ kind }) => kind)).toEqual(['unload-start', 'reclaimed', 'load-start', 'load-end']);
  });

  it('pain 2: a model that can never fit is refused at once, evicts nobody, and blocks nobody behind it', async () => {
    await system.json(['model', 'load', SMALL]);
    const since = fromNow(system);
    const [never, behind] = await Promise.all([
      system.json<Printed>(['model', 'load', 'big:70b'], 3),
      system.json<Printed>(['model', 'load', MIDDLE]),
    ]);
    expect(never.outcome).toMatchObject({ status: 'refused', steps: [], refusal: { code: 'never-fits' } });
    expect(behind.outcome.status).toBe('done');
    expect(entriesOf(since(), 'unload-start')).toEqual([]);
    expect(entriesOf(since(), 'load-start').map(({ model }) => model)).toEqual([MIDDLE]);
    // An on-demand request for it ends too, instead of evicting and reloading for ever.
    expect((await system.cli('generate', 'big:70b', 'hello')).code).toBe(3);
    expect(
      loadedModels(system)
        .map(({ name }) => name)
        .sort((a, b) => a.localeCompare(b)),
    ).toEqual([MIDDLE, SMALL]);
  });

  it('pain 3: the holder crashed already: its unload returns quickly, and the next load begins', async () => {
    await system.json(['model', 'load', MIDDLE]);
    const since = fromNow(system);
    system.simulator.ollama.crashRunner(MIDDLE);
    await system.until('its memory is back', () => heldMb(system, 'runner') === 0);
    const { outcome } = await system.json<Printed>(['model', 'unload', MIDDLE]);
    expect(outcome.totalMs).toBeLessThan(4_000);
    expect(outcome.residency?.[`model/${MIDDLE}`]).toEqual([]);
    expect((await system.json<Printed>(['model', 'load', BIG])).outcome.status).toBe('done');
    expect(entriesOf(since(), 'load-end').map((end) => end.outcome)).toEqual(['loaded']);
  });

  it('pain 3: a crashed model that Ollama still lists beside another one is loaded anew by an operation', async () => {
    await system.json(['model', 'load', MIDDLE]);
    await system.until('its runner is listed', ({ processes }) =>
      (processes ?? []).some(({ owner }) => owner === `model/${MIDDLE}`),
    );
    await system.json(['model', 'load', SMALL]);
    system.simulator.ollama.crashRunner(MIDDLE);
    await system.until('it is known to be gone', ({ tenants }) =>
      tenants.some(({ id, state }) => id === `model/${MIDDLE}` && state === 'absent'),
    );
    const since = fromNow(system);
    await system.json(['generate', MIDDLE, 'hello']);
    const [loaded] = entriesOf(since(), 'load-start');
    expect(loaded?.model).toBe(MIDDLE);
    const operations = (await system.journal()).filter(({ type }) => type === 'operation');
    expect(operations.at(-1)?.message).toContain(`load model/${MIDDLE}`);
  });

  it('pain 3: a runner that dies under a request: the request fails clearly, and the next one loads the model anew', async () => {
    await system.json(['model', 'load', MIDDLE]);
    system.simulator.faults.set('runner-crash', { model: MIDDLE, count: 1 });
    const failed = await system.cli('generate', MIDDLE, 'hello');
    expect(failed).toMatchObject({ code: 5, stderr: expect.stringMatching(/^error: /m) });
    expect((await system.json<{ text: string }>(['generate', MIDDLE, 'hello'])).text).toContain('window');
  });

  it('pain 4: the next load never starts before the memory is back, however slowly it comes', async () => {
    const blender = stranger(system, 6_000);
    await system.until('the stranger is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > 6_000);
    await system.json(['model', 'load', BIG]);
    system.simulator.faults.set('reclaim-slow', { ms: 2_500 });
    const since = fromNow(system);
    const { outcome } = await system.json<Printed>(['mode', 'recording']);
    expect(outcome).toMatchObject({ status: 'done', displaced: [`model/${BIG}`] });
    const [loaded] = entriesOf(since(), 'load-start');
    const [reclaimed] = entriesOf(since(), 'reclaimed');
    expect(reclaimed?.seq).toBeLessThan(loaded?.seq ?? 0);
    const held = holdersAt(system.simulator.record(), (loaded?.atMs ?? 0) - 1);
    expect(held.filter(({ holderKind }) => holderKind === 'runner')).toEqual([]);
    expect(blender.alive()).toBe(true);
    blender.end();
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });
});
