import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { violations } from '../../src/simulator/record.js';
import { type System, startSystem } from '../system/system.js';

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

  it('M7: CLIP has left the GPU before the VLM load ends', async () => {
    await system.json(['mode', 'recording']);
    const record = system.simulator.record();
    const loaded = record.findLast((entry) => entry.kind === 'load-end');
    const freed = record.findLast((entry) => entry.kind === 'freed' && entry.holderKind === 'embedder');
    expect(loaded).toBeDefined();
    expect(freed).toBeDefined();
    expect(freed?.atMs ?? 0).toBeLessThan(loaded?.atMs ?? 0);
    expect(await system.status()).toMatchObject({ vlm_state: 'loaded', clip_device: 'cpu' });
  });
});
