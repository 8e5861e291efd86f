import { describe, expect, it } from 'vitest';
import { ManualClock, SystemClock, sleep } from '../../src/simulator/clock.js';

describe('ManualClock', () => {
  it('fires timers in their order, and what they set in turn', async () => {
    const clock = new ManualClock();
    const fired: [string, number][] = [];
    clock.after(30, () => fired.push(['late', clock.now()]));
    clock.after(10, () => {
      fired.push(['early', clock.now()]);
      clock.after(5, () => fired.push(['nested', clock.now()]));
    });
    await clock.advance(29);
    expect(fired).toEqual([
      ['early', 10],
      ['nested', 15],
    ]);
    await clock.advance(1);
    expect(fired.at(-1)).toEqual(['late', 30]);
  });

  it('never fires what waits for ever', async () => {
    const clock = new ManualClock();
    clock.after(Number.POSITIVE_INFINITY, () => expect.unreachable());
    await clock.advance(1e12);
    expect(clock.now()).toBe(1e12);
  });
});

describe('SystemClock', () => {
  it('divides durations by its speed, also of a timer that runs already', async () => {
    const clock = new SystemClock(1);
    const started = performance.now();
    const slept = sleep(clock, 60_000);
    clock.speed = 1000;
    await slept;
    expect(performance.now() - started).toBeLessThan(5000);
    expect(clock.now()).toBeGreaterThanOrEqual(60_000);
  });

  it('gives the wall-clock time at which a simulated moment will come', () => {
    const clock = new SystemClock(10);
    const inRealMs = clock.dateOf(clock.now() + 100_000).getTime() - Date.now();
    expect(Math.abs(inRealMs - 10_000)).toBeLessThan(100);
  });

  it('leaves a sleep at an abort with its reason', async () => {
    const controller = new AbortController();
    const slept = sleep(new SystemClock(), 60_000, controller.signal);
    controller.abort(new Error('left'));
    await expect(slept).rejects.toThrow('left');
  });
});
