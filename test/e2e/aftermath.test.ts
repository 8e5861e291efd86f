import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
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
import { type System, startSystem } from '../system/system.js';

const VLM = 'llava:7b';
/** Small, with short attempts, so that four of them fit into a test. It embeds only: `/api/embed` loads it. */
const QUICK = 'nomic-embed-text:latest';
const LOAD_MS = 2_000;
const UNLOAD_MS = 4_000;
/** M19: the first one and three retries. */
const ATTEMPTS = 4;

const failed = (entries: JournalEntry[], tenant: string) => entries.filter((entry) => entry.subject === tenant).at(-1);

describe('what a failure leaves behind', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      config: {
        vlm_model: VLM,
        models: {
          [VLM]: { vram_mb: 6324 },
          [QUICK]: { vram_mb: 650, load_timeout_seconds: LOAD_MS / 1000, unload_timeout_seconds: UNLOAD_MS / 1000 },
        },
      },
    });
  });
  afterEach(() => {
    system.simulator.faults.clear();
    expectNoViolation(system);
  });
  afterAll(() => system.stop());

  it('a failed switch puts the former residency back and says so', async () => {
    // A stranger leaves so little that the VLM fits only where the other model is.
    await system.json(['model', 'load', QUICK]);
    const { vram } = await system.until('a sample with it', ({ gpus }) => (gpus[0]?.usedMb ?? 0) > 1_400);
    const strangerMb = (vram?.free_mb ?? 0) - 6_500;
    const blender = stranger(system, strangerMb);
    await system.until('the stranger is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > strangerMb);
    const since = fromNow(system);
    system.simulator.faults.set('load-fail', { model: VLM });
    const { outcome } = await system.json<Printed>(['mode', 'recording'], 5);
    expect(entriesOf(since(), 'unload-start', { model: QUICK })).not.toEqual([]);
    expect(entriesOf(since(), 'load-end', { model: VLM, outcome: 'failed' })).toHaveLength(ATTEMPTS);
    expect(outcome.compensation).toMatch(/put back: load model\/nomic-embed-text:latest/);
    expect(loadedModels(system)).toEqual([{ name: QUICK, loading: false }]);
    expect(await system.status()).toMatchObject({ execution_mode: 'idle', vlm_state: 'error' });
    expect(blender.alive()).toBe(true);
    blender.end();
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });

  it('law 8: memory that does not come back: NotReclaimed, the GPU takes nothing new until it is back', async () => {
    await system.json(['model', 'load', QUICK]);
    system.simulator.faults.set('memory-held', { of: 'runner' });
    const { outcome } = await system.json<Printed>(['model', 'unload', QUICK], 5);
    expect(outcome.failure).toMatchObject({
      type: 'NotReclaimed',
      message: expect.stringMatching(/did not come back/),
    });
    expect(heldMb(system, 'runner')).toBeGreaterThan(500);
    const status = await system.status();
    expect(status.degraded_reason).toMatch(/quarantined.*nomic-embed-text:latest did not come back/);
    expect(failed(await system.journal('unload_failed'), `model/${QUICK}`)).toBeDefined();
    const since = fromNow(system);
    const refused = await system.json<Printed>(['model', 'load', VLM], 3);
    expect(refused.outcome.refusal?.code).toBe('device-quarantined');
    expect(changesIn(since())).toEqual([]);

    system.simulator.faults.clear();
    await system.until('the quarantine has ended', ({ degraded_mode }) => !degraded_mode);
    const told = await system.journal('quarantined', 'quarantine_ended');
    expect(told.map(({ type }) => type)).toEqual(['quarantined', 'quarantine_ended']);
    expect(heldMb(system, 'runner')).toBe(0);
    expect((await system.json<Printed>(['model', 'load', QUICK])).outcome.status).toBe('done');
  });
});
