import { describe, expect, it } from 'vitest';
import { patience } from '../../src/cli/patience.js';

type Status = Parameters<ReturnType<typeof patience>['retryableDecider']>[1];
const status = (code: number): Status => ({ code, details: '' }) as unknown as Status;
const [OK, CANCELLED, NOT_FOUND, UNAVAILABLE] = [0, 1, 5, 14].map(status) as [Status, Status, Status, Status];

describe('a Temporal that goes away', () => {
  function away(patienceMs = 30_000) {
    const said: string[] = [];
    const clock = { ms: 0 };
    const say = (line: string) => void said.push(line);
    const retries = patience({ address: 'there:7233', say, patienceMs, now: () => clock.ms });
    return { said, clock, retries };
  }

  it('is told at once and once, with the time that it is waited for', () => {
    const { said, clock, retries } = away();
    expect(retries.retryableDecider(1, UNAVAILABLE)).toBe(true);
    expect(said).toEqual([
      expect.stringMatching(/^Temporal does not answer at there:7233: waiting for it, at most 30 s\./),
    ]);
    // More often than the client's own ten times, by more than one call.
    for (clock.ms = 500; clock.ms < 30_000; clock.ms += 500) {
      expect(retries.retryableDecider(clock.ms / 500, UNAVAILABLE)).toBe(true);
    }
    expect(said).toHaveLength(1);
    expect(retries.retryableDecider(61, UNAVAILABLE)).toBe(false);
  });

  it('is looked for at least about once a second', () => {
    const { retries } = away();
    for (const attempt of [1, 5, 50]) expect(retries.delayFunction(attempt, UNAVAILABLE)).toBeLessThanOrEqual(1_000);
  });

  it('is told when it is back, and has all the time again; a call of ours that was cut short tells nothing', () => {
    const { said, clock, retries } = away();
    retries.retryableDecider(1, UNAVAILABLE);
    expect(retries.retryableDecider(1, CANCELLED)).toBe(false);
    expect(said).toHaveLength(1);
    clock.ms = 29_000;
    expect(retries.retryableDecider(2, OK)).toBe(false);
    expect(said[1]).toBe('Temporal answers again.');
    clock.ms = 40_000;
    expect(retries.retryableDecider(1, UNAVAILABLE)).toBe(true);
    expect(retries.retryableDecider(2, NOT_FOUND)).toBe(false);
    expect(said).toHaveLength(4);
  });

  it('that answers is not spoken of', () => {
    const { said, retries } = away();
    expect(retries.retryableDecider(1, OK)).toBe(false);
    expect(retries.retryableDecider(1, NOT_FOUND)).toBe(false);
    expect(said).toEqual([]);
  });
});
