import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { changesIn, expectNoViolation, fromNow, loadedModels, type Printed, stranger } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
const QUICK = 'llava:7b';

describe('M18: what does not fit is refused before anything is touched', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      config: { models: { [QUICK]: { vram_mb: 6200 }, 'big:70b': { vram_mb: 43_000 } } },
    });
  });
  afterEach(() => expectNoViolation(system));
  afterAll(() => system.stop());

  it('M18: a stranger holds the memory: refused with the figures; it works once the stranger has gone', async () => {
    const blender = stranger(system, 18_000);
    await system.until('the stranger is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > 18_000);
    const since = fromNow(system);
    const { outcome } = await system.json<Printed>(['model', 'load', VLM], 3);
    const [figures] = Object.values(outcome.refusal?.figures ?? {});
    expect(outcome).toMatchObject({ status: 'refused', refusal: { code: 'not-enough-vram' } });
    expect(figures).toMatchObject({ totalMb: 24_564, usedMb: expect.any(Number), freeMb: expect.any(Number) });
    expect(figures?.foreignMb).toBeGreaterThan(18_000);
    expect(outcome.refusal?.neededMb).toBeGreaterThan(10_000);
    expect(outcome.refusal?.remedy).toMatch(/close programs/);
    expect((await system.json<Printed>(['mode', 'recording'], 3)).outcome.status).toBe('refused');
    expect((await system.status()).execution_mode).toBe('idle');
    expect(changesIn(since())).toEqual([]);
    expect(blender.alive()).toBe(true);
    blender.end();
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
    expect((await system.json<Printed>(['model', 'load', QUICK])).outcome.status).toBe('done');
  });

  it('M18: names what could be unloaded, and by which command', async () => {
    const blender = stranger(system, 14_000);
    await system.until('the stranger is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > 14_000);
    const since = fromNow(system);
    const { outcome } = await system.json<Printed>(['model', 'load', 'big:70b'], 3);
    expect(outcome.refusal?.code).toBe('never-fits');
    // The VLM would not fit even after llava had gone; the command says so before anything is touched.
    const plan = await system.json<{ plan: { kind: string; refusal?: { remedy: string } } }>(['plan', 'model', VLM], 3);
    expect(plan.plan.refusal?.remedy).toMatch(/vramflow model unload llava:7b/);
    expect(changesIn(since())).toEqual([]);
    expect(loadedModels(system)).toEqual([{ name: QUICK, loading: false }]);
    blender.end();
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });

  it('a model larger than every GPU is refused at once with the figures', async () => {
    const since = fromNow(system);
    const { outcome } = await system.json<Printed>(['model', 'load', 'big:70b'], 3);
    expect(outcome.refusal).toMatchObject({ code: 'never-fits', message: expect.stringMatching(/24,564 MB/) });
    expect(outcome.refusal?.remedy).toMatch(/smaller/);
    expect(changesIn(since())).toEqual([]);
    await system.json(['model', 'unload', QUICK]);
  });
});
