import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { violations } from '../../src/simulator/record.js';
import { entriesOf, fromNow, heldMb, type Printed, stranger } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
/** From the command until the record shows what it was for. */
const tookMs = (sinceMs: number, entry: { at: string } | undefined): number =>
  Date.parse(entry?.at ?? 'never') - sinceMs;

/** M1–M10 on the simulated RTX 4090 at speed 1, through the command line, with the times of the requirements. */
describe('modes on the simulated host', () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem();
  });
  afterAll(async () => {
    expect(violations(system.simulator.record())).toEqual([]);
    await system.stop();
  });

  it('M1, M4: loads the VLM for recording within 30 s, CLIP on the CPU', async () => {
    const { outcome } = await system.json<{ outcome: OperationOutcome }>(['mode', 'recording']);
    expect(outcome.status).toBe('done');
    expect(outcome.totalMs).toBeLessThan(30_000);
    expect(await system.status()).toMatchObject({
      execution_mode: 'recording',
      vlm_state: 'loaded',
      clip_device: 'cpu',
      simulated: true,
      degraded_mode: false,
    });
  });

  it('M9: the mode that stands is reached at once, without a call to load or unload', async () => {
    const before = system.simulator.record().length;
    const { outcome } = await system.json<{ outcome: OperationOutcome }>(['mode', 'set', 'recording']);
    expect(outcome).toMatchObject({ status: 'done', steps: [] });
    const after = system.simulator.record().slice(before);
    expect(after.filter((entry) => entry.kind === 'load-start' || entry.kind === 'unload-start')).toEqual([]);
  });

  it('M4, M5, M6: unloads the VLM for autopilot within 5 s, proves the memory, moves CLIP to the GPU', async () => {
    const { outcome } = await system.json<{ outcome: OperationOutcome }>(['mode', 'autopilot']);
    const unload = outcome.steps.find((step) => step.kind === 'unload');
    expect(unload?.ms).toBeLessThan(5_000);
    const [gpu] = Object.keys(unload?.proof.beforeMb ?? {});
    expect((unload?.proof.beforeMb[gpu ?? ''] ?? 0) - (unload?.proof.afterMb[gpu ?? ''] ?? 0)).toBeGreaterThan(8_000);
    expect(await system.status()).toMatchObject({
      execution_mode: 'autopilot',
      vlm_state: 'unloaded',
      clip_device: 'cuda',
    });
    const [unloaded] = await system.journal('model_unloaded');
    expect(unloaded?.details).toMatchObject({ by: expect.stringContaining('dropped') });
  });

  it('M5: a stranger comes and CLIP moves to the CPU; the stranger goes and CLIP is on the GPU again', async () => {
    const { total_mb = 0, used_mb = 0 } = (await system.status()).vram ?? {};
    // What is free without CLIP is then below the threshold of 1024 MB.
    const game = stranger(system, total_mb - used_mb + heldMb(system, 'embedder') - 900);
    await system.until('CLIP is on the CPU', ({ clip_device, turns }) => clip_device === 'cpu' && turns.length === 0);
    expect(heldMb(system, 'embedder')).toBe(0);
    expect(await system.status()).toMatchObject({ execution_mode: 'autopilot', degraded_mode: false });
    expect(game.alive()).toBe(true);
    game.end();
    await system.until('CLIP is back', ({ clip_device, turns }) => clip_device === 'cuda' && turns.length === 0);
    expect(await system.json(['embed', 'text', 'a red button'])).toMatchObject({ device: 'cuda', dimension: 512 });
  });

  it('M4, M7: from autopilot the VLM is loaded within 30 s, after CLIP has left the GPU', async () => {
    const [since, sinceMs] = [fromNow(system), Date.now()];
    await system.json(['mode', 'recording']);
    const record = system.simulator.record();
    expect(tookMs(sinceMs, entriesOf(since(), 'load-end', { outcome: 'loaded', model: VLM })[0])).toBeLessThan(30_000);
    const loaded = record.findLast((entry) => entry.kind === 'load-end');
    const freed = record.findLast((entry) => entry.kind === 'freed' && entry.holderKind === 'embedder');
    expect(loaded).toBeDefined();
    expect(freed).toBeDefined();
    expect(freed?.atMs ?? 0).toBeLessThan(loaded?.atMs ?? 0);
    expect(await system.status()).toMatchObject({ vlm_state: 'loaded', clip_device: 'cpu' });
  });

  it('M4: with a request in flight that never ends, the memory is back within 5 s, its grace included', async () => {
    system.simulator.faults.set('generate-hang', { count: 1 });
    const begun = fromNow(system);
    const hung = system.cli('generate', VLM, 'hello');
    await system.until(
      'the request is in flight',
      () => entriesOf(begun(), 'request-start', { model: VLM }).length > 0,
    );
    const since = fromNow(system);
    const { outcome } = await system.json<Printed>(['mode', 'autopilot']);
    // One attempt, whose bound are the 5 s: the step ends once a sample has shown the memory.
    const unload = outcome.steps.find(({ kind }) => kind === 'unload');
    expect(unload).toMatchObject({ attempts: 1, acted: true });
    expect(unload?.ms).toBeLessThan(5_000);
    expect(entriesOf(since(), 'reclaimed')).toHaveLength(1);
    expect(heldMb(system, 'runner')).toBe(0);
    expect((await hung).code).not.toBe(0);
  });
});
