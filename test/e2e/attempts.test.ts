import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { entriesOf, expectNoViolation, fromNow, loadedModels, type Printed } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'llava:7b';
/** Small, with short attempts, so that four of them fit into a test. It embeds only: `/api/embed` loads it. */
const QUICK = 'nomic-embed-text:latest';
const LOAD_MS = 2_000;
const UNLOAD_MS = 1_500;
/** From the end of an attempt's time until its request is aborted. */
const ABORT_MS = 500;
/** M19: the first one and three retries. */
const ATTEMPTS = 4;

const failed = (entries: JournalEntry[], tenant: string) => entries.filter((entry) => entry.subject === tenant).at(-1);

describe('M19: attempts, their times, and what is left behind', { timeout: 60_000 }, () => {
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

  it('M19: a load that hangs is cancelled at its time, four times; then state error, an event, and nothing half-loaded', async () => {
    const since = fromNow(system);
    system.simulator.faults.set('load-hang', { model: QUICK });
    const { outcome, workflow_id } = await system.json<Printed>(['model', 'load', QUICK], 5);
    expect(outcome).toMatchObject({ status: 'failed', failure: { type: 'LoadTimeout' } });
    const requests = entriesOf(since(), 'request-start', { model: QUICK, path: '/api/embed' });
    expect(requests).toHaveLength(ATTEMPTS);
    for (const { request, atMs } of requests) {
      const [end] = entriesOf(since(), 'request-end', { request });
      expect(end?.aborted).toBe(true);
      expect((end?.atMs ?? 0) - atMs).toBeGreaterThan(LOAD_MS - ABORT_MS);
      expect((end?.atMs ?? 0) - atMs).toBeLessThan(LOAD_MS + ABORT_MS);
    }
    expect(entriesOf(since(), 'load-end').map((end) => end.outcome)).toEqual(Array(ATTEMPTS).fill('aborted'));
    expect(loadedModels(system)).toEqual([]);
    const tenant = (await system.status()).tenants.find(({ id }) => id === `model/${QUICK}`);
    expect(tenant?.state).toBe('error');
    expect(failed(await system.journal('load_failed'), `model/${QUICK}`)).toMatchObject({ workflowId: workflow_id });
    // Not tried again by itself, and a load that goes well ends the error.
    system.simulator.faults.clear();
    expect((await system.json<Printed>(['model', 'load', QUICK])).outcome.status).toBe('done');
  });

  it('M19: a load that fails twice succeeds at the third attempt', async () => {
    await system.json(['model', 'unload', QUICK]);
    const since = fromNow(system);
    system.simulator.faults.set('load-fail', { model: QUICK, times: 2 });
    const { outcome } = await system.json<Printed>(['model', 'load', QUICK]);
    expect(outcome.steps.find((step) => step.kind === 'load')).toMatchObject({ attempts: 3, acted: true });
    expect(entriesOf(since(), 'load-end').map((end) => end.outcome)).toEqual(['failed', 'failed', 'loaded']);
  });

  it('M19: an unload that Ollama ignores is tried four times; then unload_failed, and it is not forgotten', async () => {
    const since = fromNow(system);
    system.simulator.faults.set('unload-ignored', { model: QUICK });
    const { outcome } = await system.json<Printed>(['model', 'unload', QUICK], 5);
    expect(outcome).toMatchObject({
      status: 'failed',
      failure: { type: 'UnloadTimeout' },
      residency: { [`model/${QUICK}`]: [expect.stringMatching(/^GPU-/)] },
    });
    const paths = entriesOf(since(), 'request-start', { model: QUICK }).map(({ path }) => path);
    const unloads = Array<string>(ATTEMPTS).fill('/api/generate');
    // Then the compensation: a load that finds it there, and a probe that it still answers.
    expect(paths).toEqual([...unloads, '/api/generate', '/api/embed']);
    expect(loadedModels(system)).toEqual([{ name: QUICK, loading: false }]);
    expect(failed(await system.journal('unload_failed'), `model/${QUICK}`)).toBeDefined();
    const tenant = (await system.status()).tenants.find(({ id }) => id === `model/${QUICK}`);
    expect(tenant?.holdings).toMatchObject([{ mb: expect.any(Number) }]);
  });
});
