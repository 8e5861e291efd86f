import { describe, expect, it } from 'vitest';
import type { TenantObservation } from '../../src/contracts/residency.js';
import { findPhase, phaseProblem } from '../../src/domain/phases.js';

const policy = { phases: [{ name: 'render', number: 4, services: ['service/comfyui', 'service/vidi'] }] };
const tenant = (id: string, state: TenantObservation['state'], trouble?: TenantObservation['trouble']) => ({
  id,
  state,
  ...(trouble === undefined ? {} : { trouble }),
});

describe('a phase', () => {
  it('is found by its name and by its number', () => {
    expect(findPhase(policy, '4')).toBe(findPhase(policy, 'render'));
    expect(findPhase(policy, '5')).toBeNull();
  });

  it('has no problem while all of it is ready, nor before one was prepared', () => {
    const ready = [tenant('service/comfyui', 'resident'), tenant('service/vidi', 'resident')];
    expect(phaseProblem(policy, 'render', ready)).toBeNull();
    expect(phaseProblem(policy, null, [])).toBeNull();
  });

  it('is degraded by what of it is not ready, and says why and when that is tried again', () => {
    const trouble = { reason: 'exit code 1; its last lines:\nno module', nextTryAt: '2026-01-01T00:00:02.000Z' };
    const down = [tenant('service/comfyui', 'error', trouble), tenant('service/vidi', 'absent')];
    expect(phaseProblem(policy, 'render', down)).toBe(
      'comfyui is failed: exit code 1; its last lines: (next try at 2026-01-01T00:00:02.000Z, if it is wanted); vidi is stopped',
    );
  });
});
