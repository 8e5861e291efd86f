import { describe, expect, it } from 'vitest';
import type { PlanStep } from '../../src/contracts/plan.js';
import { attemptMs, modelPolicy, startTimes, stopTimes } from '../../src/domain/timeouts.js';
import { policy, VLM } from './planner/hosts.js';

const base = { id: 's1', after: [], devices: [], expectedMs: 0, peakMb: {}, why: '' };
const step = (kind: 'load' | 'unload', tenant: string): PlanStep =>
  kind === 'load'
    ? { ...base, kind, tenant, needsMb: 0, allowCpu: false, confirms: false }
    : { ...base, kind, tenant, freesMb: {} };
const move: PlanStep = { ...base, kind: 'move', tenant: 'embedder/clip', to: 'cpu', freesMb: {} };

describe('the time of one attempt (M19)', () => {
  it('is as configured for the model, in milliseconds', () => {
    const models = policy().models.map((model) => ({ ...model, loadTimeoutSeconds: 90, unloadTimeoutSeconds: 7 }));
    expect(attemptMs(step('load', VLM), policy({ models }))).toBe(90_000);
    expect(attemptMs(step('unload', VLM), policy({ models }))).toBe(7_000);
    expect(attemptMs(move, policy())).toBe(10_000);
    expect(modelPolicy(policy(), VLM)?.name).toBe('qwen3-vl:8b');
  });

  it('is 30 s and 5 s for a model that the configuration does not name', () => {
    expect(attemptMs(step('load', 'model/other'), policy())).toBe(30_000);
    expect(attemptMs(step('unload', 'model/other'), policy())).toBe(5_000);
  });

  it('is a whole number: a timer takes no other', () => {
    const seconds = 1.0005;
    const models = policy().models.map((model) => ({
      ...model,
      loadTimeoutSeconds: seconds,
      unloadTimeoutSeconds: seconds,
    }));
    const embedder = { ...policy().embedder, moveTimeoutSeconds: seconds };
    for (const one of [step('load', VLM), step('unload', VLM), move]) {
      expect(Number.isInteger(attemptMs(one, policy({ models, embedder })))).toBe(true);
    }
  });
});

describe('the time of a service (P2)', () => {
  const limits = [1, 99, 100, 333, 1_000, 4_000, 30_000, 120_000, 3_600_000];

  it.each(limits)('of %d ms: it is asked, then killed, and known to be stuck before a stop is over', (limitMs) => {
    const { graceMs, endMs } = stopTimes(limitMs);
    expect(graceMs).toBeLessThanOrEqual(endMs);
    expect(endMs).toBeLessThanOrEqual(limitMs);
    // What was stuck once has time for another kill, and no more.
    const again = stopTimes(limitMs, true);
    expect(again.graceMs).toBe(0);
    expect(endMs + again.endMs).toBeLessThanOrEqual(limitMs + 1);
    for (const ms of [graceMs, endMs, again.endMs]) expect(Number.isInteger(ms)).toBe(true);
  });

  it.each(limits)('of %d ms: what a start leaves is ended within it', (limitMs) => {
    const { readyMs, cleanUp } = startTimes(limitMs);
    expect(readyMs + cleanUp.endMs).toBe(limitMs);
    expect(cleanUp.graceMs).toBeLessThanOrEqual(cleanUp.endMs);
    for (const ms of [readyMs, cleanUp.graceMs, cleanUp.endMs]) expect(Number.isInteger(ms)).toBe(true);
  });

  it('of the defaults: 21 s to end by itself, 6 s for the kill; 114 s to become ready', () => {
    expect(stopTimes(30_000)).toEqual({ graceMs: 21_000, endMs: 27_000 });
    expect(startTimes(120_000)).toEqual({ readyMs: 114_000, cleanUp: { graceMs: 3_000, endMs: 6_000 } });
  });
});
