import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { usedOver } from '../../src/simulator/record.js';
import {
  changesIn,
  entriesOf,
  expectNoViolation,
  fromNow,
  loadedModels,
  type Printed,
  stranger,
} from '../system/judge.js';
import { isLoading, isQuiet, loadOf, startOperation } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const BIG = 'qwen2.5:14b';
const MIDDLE = 'llava:7b';
const SMALL = 'nomic-embed-text:latest';

/** Pains 5, 6 and 8 of what users of other products report. */
describe('pains of other products: who owns what', { timeout: 60_000 }, () => {
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

  it('pain 5: Ollama dies and leaves a runner: its memory is not free, it is shown, and it is not killed', async () => {
    await system.json(['model', 'load', MIDDLE]);
    const { gpuHost, ollama } = system.simulator;
    const [orphan] = gpuHost.processes.filter(({ kind, ended }) => kind === 'runner' && !ended);
    if (orphan === undefined) throw new Error('there is no runner');
    await ollama.stop(true);
    await ollama.start();
    const { processes } = await system.until(
      'it counts as foreign',
      ({ gpus: [gpu], degraded_mode }) => !degraded_mode && (gpu?.foreignMb ?? 0) > 6_000,
      40_000,
    );
    expect(processes).toContainEqual(expect.objectContaining({ pid: orphan.pid }));
    expect((await system.cli('can-fit', '20000')).code).not.toBe(0);
    const { outcome } = await system.json<Printed>(['model', 'load', BIG]);
    expect(outcome.status).toBe('done');
    expect(orphan.ended).toBe(false);
    void gpuHost.end(orphan);
    await system.until('it has gone', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });

  it("pain 6: a stranger's memory is seen and respected; the stranger is never touched", async () => {
    const since = fromNow(system);
    const game = stranger(system, 15_000, '/usr/games/game');
    const { gpus } = await system.until('it is seen', ({ gpus: [gpu] }) => (gpu?.foreignMb ?? 0) > 15_000);
    expect(gpus[0]?.usedMb).toBeGreaterThan(15_000);
    const strangers = async () => (await system.journal('foreign_process')).map(({ message }) => message);
    await expect.poll(strangers, { timeout: 5_000 }).toContainEqual(`/usr/games/game (pid ${game.pid}) came`);
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
  });
});
