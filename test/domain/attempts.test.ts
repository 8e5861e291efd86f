import { describe, expect, it } from 'vitest';
import { FAILURE } from '../../src/contracts/failures.js';
import { MAX_LOOK_AGAIN, pauseAfter, verdictOf } from '../../src/domain/attempts.js';

describe('what a failed attempt means (M19)', () => {
  it.each([
    [FAILURE.loadTimeout, 'retry'],
    [FAILURE.unloadTimeout, 'retry'],
    [FAILURE.loadFailed, 'retry'],
    [FAILURE.notReclaimed, 'retry'],
    ['SomethingNew', 'retry'],
    [FAILURE.premiseGone, 'look-again'],
    [FAILURE.driverUnavailable, 'look-again'],
    [FAILURE.agentAway, 'look-again'],
    [null, 'look-again'],
    [FAILURE.modelMissing, 'give-up'],
    [FAILURE.partMissing, 'give-up'],
    [FAILURE.partialOffload, 'give-up'],
    [FAILURE.unknownTenant, 'give-up'],
    [FAILURE.fenced, 'lost-turn'],
    [FAILURE.staleEpoch, 'lost-turn'],
  ])('%s: %s', (type, verdict) => {
    expect(verdictOf(type)).toBe(verdict);
  });

  it('waits a little longer each time, but never long', () => {
    expect([1, 2, 3, 4, 9].map(pauseAfter)).toEqual([250, 500, 1_000, 2_000, 2_000]);
    const allLooks = Array.from({ length: MAX_LOOK_AGAIN }, (_, n) => pauseAfter(n + 1));
    expect(allLooks.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(30_000);
  });
});
