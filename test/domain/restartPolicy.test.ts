import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { OperationOutcome } from '../../src/contracts/operation.js';
import { HEALED_MS, isHeldBackByAgent, nextRestart } from '../../src/domain/restartPolicy.js';

describe('the restart of a service that died while it was wanted', () => {
  it('waits 1 s, then twice as long each time, up to 60 s', () => {
    const delays: number[] = [];
    for (let restarts = 0, n = 0; n < 9; n++) {
      const next = nextRestart(restarts, 0);
      delays.push(next.delayMs);
      restarts = next.restarts;
    }
    expect(delays).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => seconds * 1_000));
  });

  it('begins anew after five minutes of health, and not a moment before', () => {
    expect(nextRestart(6, HEALED_MS)).toEqual({ delayMs: 1_000, restarts: 1 });
    expect(nextRestart(6, HEALED_MS - 1)).toEqual({ delayMs: 60_000, restarts: 7 });
  });

  it('is never at once, never beyond a minute, and never sooner after more deaths', () => {
    fc.assert(
      fc.property(fc.nat(10_000), fc.nat(HEALED_MS - 1), (restarts, healthyForMs) => {
        const { delayMs, restarts: next } = nextRestart(restarts, healthyForMs);
        expect(delayMs).toBeGreaterThanOrEqual(1_000);
        expect(delayMs).toBeLessThanOrEqual(60_000);
        expect(next).toBe(restarts + 1);
        expect(nextRestart(next, healthyForMs).delayMs).toBeGreaterThanOrEqual(delayMs);
      }),
    );
  });

  it('is the agent’s to time where it failed in an operation that the agent has concluded', () => {
    const outcome = (failedTenant: string | null, residency: OperationOutcome['residency']) =>
      ({ failedTenant, residency }) as OperationOutcome;
    expect(isHeldBackByAgent(outcome('service/vidi', {}))).toBe(true);
    expect(isHeldBackByAgent(outcome('service/vidi', null))).toBe(false);
    expect(isHeldBackByAgent(outcome('model/qwen3-vl:8b', {}))).toBe(false);
    expect(isHeldBackByAgent(outcome(null, {}))).toBe(false);
  });
});
