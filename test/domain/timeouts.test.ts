import { describe, expect, it } from 'vitest';
import type { PlanStep } from '../../src/contracts/plan.js';
import { attemptMs, modelPolicy } from '../../src/domain/timeouts.js';
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
