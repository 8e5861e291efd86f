import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { holdersAt, usedOver } from '../../src/simulator/record.js';
import {
  changesIn,
  entriesOf,
  expectNoViolation,
  fromNow,
  heldMb,
  loadedModels,
  type Printed,
  stranger,
} from '../system/judge.js';
import { isLoading, isQuiet, loadOf, startOperation } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const BIG = 'qwen2.5:14b';
const MIDDLE = 'llava:7b';
const SMALL = 'nomic-embed-text:latest';

/** What users of other products report (docs: ANCHORS, "Pains"): each is a case that must pass here. */
describe('pains of other products', () => {
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

  it('pain 3: a runner that dies under a request: the request fails or is answered anew, the model comes back', async () => {
    await system.json(['model', 'load', MIDDLE]);
    system.simulator.faults.set('runner-crash', { model: MIDDLE, count: 1 });
    const failed = await system.cli('generate', MIDDLE, 'hello');
    expect([0, 5]).toContain(failed.code);
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

  it('pain 5: the agent is killed: the embedder is adopted, nothing is loaded twice, nothing is left behind', async () => {
    await system.json(['mode', 'autopilot']);
    const embedders = () =>
      system.simulator.gpuHost.processes.filter(({ kind, ended }) => kind === 'embedder' && !ended);
    const [before] = embedders();
    const handle = await startOperation(system, loadOf(MIDDLE));
    await isLoading(system, MIDDLE);
    const since = fromNow(system);
    await system.agent?.kill();
    await system.startAgent();
    expect(await handle.result()).toMatchObject({ status: 'done' });
    expect(embedders().map(({ pid }) => pid)).toEqual([before?.pid]);
    expect((await system.status()).clip_device).toBe('cuda');
    // The load of the dead agent was cancelled with its connection, or was found and taken; never twice at a time.
    expect(entriesOf(since(), 'load-end', { outcome: 'loaded' })).toHaveLength(1);
    expect(system.simulator.gpuHost.processes.filter(({ kind, ended }) => kind === 'runner' && !ended)).toHaveLength(1);
    await system.json(['mode', 'idle']);
  });

  it("pain 6: a stranger's memory is seen and respected; the stranger is never touched", async () => {
    const since = fromNow(system);
    const game = stranger(system, 15_000, '/usr/games/game');
    const { gpus } = await system.until('it is seen', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 15_000);
    expect(gpus[0]?.usedMb).toBeGreaterThan(15_000);
    const strangers = async () => (await system.journal('foreign_process')).map(({ message }) => message);
    await expect.poll(strangers).toContainEqual(`/usr/games/game (pid ${game.pid}) came`);
    expect((await system.json<Printed>(['model', 'load', BIG], 3)).outcome.refusal?.code).toBe('not-enough-vram');
    expect((await system.json<Printed>(['model', 'load', MIDDLE])).outcome.status).toBe('done');
    // It grows beside a resident model: nothing is killed, and what is planned next counts with it.
    const { gpuHost } = system.simulator;
    gpuHost.resize(gpuHost.processOf(game.pid), gpuHost.card(0).spec.uuid, 16_000);
    await system.until('it has grown', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 16_000);
    expect((await system.json<Printed>(['model', 'load', SMALL])).outcome.status).toBe('done');
    expect(game.alive()).toBe(true);
    expect(since().filter((entry) => entry.kind === 'process-end' && entry.pid === game.pid)).toEqual([]);
    for (const points of usedOver(system.simulator.record()).values()) {
      expect(Math.max(...points.map(({ usedMb }) => usedMb))).toBeLessThanOrEqual(24_564);
    }
    game.end();
    await system.until('it has gone', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });

  it('pain 8: a partial offload is a failure that says so, not a silent CPU', async () => {
    system.simulator.faults.set('partial-offload', { model: MIDDLE, share: 0.6 });
    const { outcome } = await system.json<Printed>(['model', 'load', MIDDLE], 5);
    expect(outcome.failure).toMatchObject({
      type: 'PartialOffload',
      message: expect.stringMatching(/only \d+ of \d+ MB .* came to the GPU/),
      remedy: expect.stringMatching(/allow_cpu/),
    });
    expect(loadedModels(system)).toEqual([]);
    expect((await system.journal('load_failed')).at(-1)?.message).toMatch(/came to the GPU/);
    system.simulator.faults.clear();
    expect((await system.json<Printed>(['model', 'load', MIDDLE])).outcome.status).toBe('done');
  });

  it('pain 8: a failed unload is not forgotten: the model still counts, and the next unload tries again', async () => {
    await system.json(['model', 'load', SMALL]);
    system.simulator.faults.set('unload-ignored', { model: SMALL });
    const handle = await startOperation(system, loadOf(SMALL, 'unload'));
    await expect(handle.result()).rejects.toThrow();
    const tenant = (await system.status()).tenants.find(({ id }) => id === `model/${SMALL}`);
    expect(tenant?.holdings[0]?.mb).toBeGreaterThan(500);
    expect((await system.journal('unload_failed')).at(-1)?.subject).toBe(`model/${SMALL}`);
    system.simulator.faults.clear();
    const since = fromNow(system);
    expect((await system.json<Printed>(['model', 'unload', SMALL])).outcome.status).toBe('done');
    expect(entriesOf(since(), 'gone', { model: SMALL })).toHaveLength(1);
    expect(changesIn(since()).filter(({ kind }) => kind === 'load-start')).toEqual([]);
  }, 60_000);
});
