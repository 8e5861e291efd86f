import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  afterHealthEvent,
  type HealthEvent,
  type HealthPolicy,
  nextCheckInMs,
  type ServiceHealth,
  unstarted,
} from '../../src/domain/serviceHealth.js';

const POLICY: HealthPolicy = { startPeriodMs: 1_000, intervalMs: 2_000, failuresToUnhealthy: 3, successesToReady: 2 };

const good = (atMs: number): HealthEvent => ({ kind: 'checked', atMs, ok: true, detail: 'fine' });
const bad = (atMs: number): HealthEvent => ({ kind: 'checked', atMs, ok: false, detail: 'no answer' });
const started = (atMs: number): HealthEvent => ({ kind: 'started', atMs });

function after(...events: HealthEvent[]): ServiceHealth {
  return events.reduce((health, event) => afterHealthEvent(health, event, POLICY), unstarted(0));
}

describe('the state of a service', () => {
  it('is ready after enough successes in a row', () => {
    expect(after(started(5))).toMatchObject({ state: 'starting', sinceMs: 5 });
    expect(after(started(5), good(10))).toMatchObject({ state: 'starting', detail: 'fine' });
    expect(after(started(5), good(10), bad(20), good(30))).toMatchObject({ state: 'starting' });
    expect(after(started(5), good(10), good(20))).toMatchObject({ state: 'ready', sinceMs: 20 });
    expect(after(started(5), good(10), good(20), good(30))).toMatchObject({ state: 'ready', sinceMs: 20 });
  });

  it('is not unhealthy within the start period, but from then on after enough failures in a row', () => {
    const early = [100, 300, 500, 900].map(bad);
    expect(after(started(0), ...early)).toMatchObject({ state: 'starting', failures: 0, detail: 'no answer' });
    expect(after(started(0), ...early, bad(1_000), bad(1_100))).toMatchObject({ state: 'starting', failures: 2 });
    expect(after(started(0), ...early, bad(1_000), bad(1_100), bad(1_200))).toMatchObject({
      state: 'unhealthy',
      sinceMs: 1_200,
    });
  });

  it('is not excused by the start period once it was ready', () => {
    const ready = [started(0), good(1), good(2)];
    expect(after(...ready, bad(3), bad(4))).toMatchObject({ state: 'ready' });
    expect(after(...ready, bad(3), bad(4), good(5), bad(6), bad(7))).toMatchObject({ state: 'ready' });
    expect(after(...ready, bad(3), bad(4), bad(5))).toMatchObject({ state: 'unhealthy', sinceMs: 5 });
    expect(after(...ready, bad(3), bad(4), bad(5), good(6))).toMatchObject({ state: 'unhealthy' });
    expect(after(...ready, bad(3), bad(4), bad(5), good(6), good(7))).toMatchObject({ state: 'ready', sinceMs: 7 });
  });

  it('tells an end that was asked for from one that was not', () => {
    const end: HealthEvent = { kind: 'ended', atMs: 9, detail: 'exit code 1' };
    const stop: HealthEvent = { kind: 'stopping', atMs: 8 };
    expect(after(started(0), stop)).toMatchObject({ state: 'stopping', sinceMs: 8 });
    expect(after(started(0), stop, end)).toMatchObject({ state: 'stopped', sinceMs: 9, runSinceMs: null });
    expect(after(started(0), end)).toMatchObject({ state: 'failed', detail: 'exit code 1' });
    expect(after(started(0), end, end, stop, good(10))).toMatchObject({ state: 'failed', sinceMs: 9 });
    expect(after(started(0), end, started(12))).toMatchObject({ state: 'starting', sinceMs: 12, failures: 0 });
    expect(after(stop, end, good(10), good(11))).toEqual(unstarted(0));
  });

  it('is not made ready again by an answer that was under way when the stop began', () => {
    expect(after(started(0), good(1), good(2), { kind: 'stopping', atMs: 3 }, good(4), good(5))).toMatchObject({
      state: 'stopping',
    });
  });

  it('is checked while it runs: more often while somebody waits for it', () => {
    expect(nextCheckInMs(after(), POLICY)).toBeNull();
    expect(nextCheckInMs(after(started(0)), POLICY)).toBe(500);
    expect(nextCheckInMs(after(started(0)), { ...POLICY, intervalMs: 100 })).toBe(100);
    expect(nextCheckInMs(after(started(0), good(1), good(2)), POLICY)).toBe(2_000);
    expect(nextCheckInMs(after(started(0), { kind: 'stopping', atMs: 1 }), POLICY)).toBeNull();
  });
});

describe('any history of a service', () => {
  const kinds = fc.constantFrom(
    'started' as const,
    'stopping' as const,
    'ended' as const,
    'good' as const,
    'bad' as const,
    'bad' as const,
  );
  const history = fc.array(fc.record({ kind: kinds, waitMs: fc.nat(800) }), { maxLength: 60 });
  const policy = fc.record({
    startPeriodMs: fc.nat(3_000),
    intervalMs: fc.integer({ min: 1, max: 60_000 }),
    failuresToUnhealthy: fc.integer({ min: 1, max: 5 }),
    successesToReady: fc.integer({ min: 1, max: 5 }),
  });

  it('has a state that its last events alone explain', () => {
    fc.assert(
      fc.property(history, policy, (steps, rules) => {
        let health = unstarted(0);
        let atMs = 0;
        const run: { ok: boolean; atMs: number }[] = [];
        let runs = false;
        let asked = false;
        for (const { kind, waitMs } of steps) {
          atMs += waitMs;
          const before = health;
          const event: HealthEvent =
            kind === 'good' || kind === 'bad'
              ? { kind: 'checked', ok: kind === 'good', atMs, detail: kind }
              : kind === 'ended'
                ? { kind, atMs, detail: 'ended' }
                : { kind, atMs };
          health = afterHealthEvent(health, event, rules);
          if (kind === 'started') {
            run.length = 0;
            [runs, asked] = [true, false];
          } else if (kind === 'ended') runs = false;
          else if (kind === 'stopping') asked ||= runs;
          else if (runs && !asked) run.push({ ok: kind === 'good', atMs });

          expect(health.successes > 0 && health.failures > 0).toBe(false);
          expect(health.state !== before.state && health.sinceMs !== atMs).toBe(false);
          expect(health.runSinceMs !== null).toBe(runs);
          if (runs && asked) expect(health.state).toBe('stopping');
          if (!runs) expect(['stopped', 'failed']).toContain(health.state);
          const goodTail = run.length - 1 - run.findLastIndex(({ ok }) => !ok);
          const badTail = run.length - 1 - run.findLastIndex(({ ok }) => ok);
          if (runs && !asked) {
            if (goodTail >= rules.successesToReady) expect(health.state).toBe('ready');
            if (health.state === 'unhealthy') expect(goodTail).toBeLessThan(rules.successesToReady);
            if (badTail >= rules.failuresToUnhealthy && health.wasReady) expect(health.state).toBe('unhealthy');
            if (health.state === 'ready') expect(badTail).toBeLessThan(rules.failuresToUnhealthy);
          }
          expect(nextCheckInMs(health, rules) === null).toBe(!runs || asked);
        }
      }),
      { numRuns: 500 },
    );
  });
});
