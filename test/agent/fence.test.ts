import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { Fence, Fenced, NotEntered, StaleEpoch } from '../../src/agent/fence.js';
import { StateFile } from '../../src/agent/stateFile.js';
import type { FencedCall } from '../../src/contracts/activities.js';
import type { Epochs } from '../../src/contracts/operation.js';
import { testFolder } from './folder.js';

afterEach(() => {
  vi.useRealTimers();
});

const never = new AbortController().signal;
const call = (run: string, epochs: Epochs): FencedCall => ({
  operation: { workflowId: `w/${run}`, runId: run },
  epochs,
});

function fenceIn(folder: string, now: () => number = () => 0) {
  const idle = vi.fn();
  return { idle, fence: new Fence(new StateFile<Epochs>(join(folder, 'epochs.json'), {}), now, idle) };
}

const effectNamed = (key: string, devices: string[]) => ({ key, name: `load model/${key}`, devices });

/** An effect that ends when it is told to, or when the test says. */
function effect() {
  let end: (value: string) => void = () => {};
  let aborted = false;
  const run = (signal: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      end = resolve;
      signal.addEventListener('abort', () => {
        aborted = true;
        reject(signal.reason);
      });
    });
  return { run, end: (value: string) => end(value), wasAborted: () => aborted };
}

const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => null,
    (error: unknown) => error,
  );

describe('the fence (law 3)', () => {
  it('ends the older effect on a device before a newer turn has entered', async () => {
    const { fence } = fenceIn(testFolder());
    const older = effect();
    await fence.enter(call('a', { g0: 1 }));
    const running = errorOf(fence.run(call('a', { g0: 1 }), effectNamed('s1', ['g0']), never, older.run));
    await fence.enter(call('b', { g0: 2 }));
    expect(older.wasAborted()).toBe(true);
    expect(await running).toBeInstanceOf(Fenced);
    expect(fence.holders().map((holder) => holder.operation.runId)).toEqual(['b']);
  });

  it('leaves effects on other devices alone', async () => {
    const { fence } = fenceIn(testFolder());
    const other = effect();
    await fence.enter(call('a', { g1: 1 }));
    const running = fence.run(call('a', { g1: 1 }), effectNamed('s1', ['g1']), never, other.run);
    await fence.enter(call('b', { g0: 1 }));
    expect(other.wasAborted()).toBe(false);
    other.end('done');
    expect(await running).toBe('done');
    expect(fence.holders()).toHaveLength(2);
  });

  it('ends what an operation itself still does when it looks again', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const former = effect();
    const running = errorOf(fence.run(call('a', { g0: 1 }), effectNamed('1.s1', ['g0']), never, former.run));
    await fence.enter(call('a', { g0: 1 }));
    expect(await running).toBeInstanceOf(Fenced);
  });

  it('waits until an aborted effect has really ended', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const steps: string[] = [];
    let finish: () => void = () => {};
    const slow = (): Promise<void> =>
      new Promise((resolve) => {
        finish = () => {
          steps.push('effect ended');
          resolve();
        };
      });
    const running = fence.run(call('a', { g0: 1 }), effectNamed('s1', ['g0']), never, slow);
    const entering = fence.enter(call('b', { g0: 2 })).then(() => steps.push('entered'));
    await new Promise(setImmediate);
    finish();
    await Promise.all([running, entering]);
    expect(steps).toEqual(['effect ended', 'entered']);
  });

  it('quarantines the devices of an effect that does not end in time, until it has ended (law 8)', async () => {
    vi.useFakeTimers();
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1, g1: 1 }));
    let end: () => void = () => {};
    const deaf = (): Promise<void> => new Promise((resolve) => (end = resolve));
    const running = errorOf(fence.run(call('a', { g0: 1, g1: 1 }), effectNamed('s1', ['g0']), never, deaf));
    const entering = fence.enter(call('b', { g0: 2, g1: 2 }));
    await vi.advanceTimersByTimeAsync(9_999);
    expect(fence.quarantine('g0')).toBeNull();
    await vi.advanceTimersByTimeAsync(1);
    await entering;
    expect([fence.quarantine('g0'), fence.quarantine('g1')]).toEqual([
      'load model/s1 was ended and does not end',
      null,
    ]);
    // The next turn does not wait for it again, and no timer is left behind.
    await fence.enter(call('c', { g0: 3 }));
    expect(vi.getTimerCount()).toBe(0);
    end();
    expect(await running).toBeNull();
    expect(fence.quarantine('g0')).toBeNull();
  });

  it('refuses an effect of an operation that looked in an earlier life of the agent', async () => {
    const folder = testFolder();
    await fenceIn(folder).fence.enter(call('a', { g0: 1 }));
    const { fence } = fenceIn(folder);
    const run = vi.fn(() => Promise.resolve('done'));
    const attempt = () => fence.run(call('a', { g0: 1 }), effectNamed('s1', ['g0']), never, run);
    expect(await errorOf(attempt())).toBeInstanceOf(NotEntered);
    expect(run).not.toHaveBeenCalled();
    await fence.enter(call('a', { g0: 1 }));
    expect(await attempt()).toBe('done');
  });

  it('ends what a terminated operation still does, and holds it no more', async () => {
    const { fence, idle } = fenceIn(testFolder());
    const [mine, other] = [effect(), effect()];
    await fence.enter(call('a', { g0: 1 }));
    await fence.enter(call('b', { g1: 1 }));
    const ended = errorOf(fence.run(call('a', { g0: 1 }), effectNamed('s1', ['g0']), never, mine.run));
    const kept = fence.run(call('b', { g1: 1 }), effectNamed('s1', ['g1']), never, other.run);
    fence.abandon(call('a', {}).operation);
    expect(await ended).toBeInstanceOf(Fenced);
    expect(fence.holders().map((holder) => holder.operation.runId)).toEqual(['b']);
    other.end('done');
    expect(await kept).toBe('done');
    fence.leave(call('b', {}).operation);
    expect(idle).toHaveBeenCalledOnce();
  });

  it('refuses an older epoch, also after a restart from disk', async () => {
    const folder = testFolder();
    await fenceIn(folder).fence.enter(call('b', { g0: 5, g1: 2 }));
    const { fence } = fenceIn(folder);
    expect(fence.highest()).toEqual({ g0: 5, g1: 2 });
    for (const stale of [call('a', { g0: 4 }), call('a', { g0: 9, g1: 1 })]) {
      const refused = await errorOf(fence.enter(stale));
      expect(refused).toBeInstanceOf(StaleEpoch);
      expect(refused).toMatchObject({ highest: { g0: 5, g1: 2 } });
      const run = vi.fn(() => Promise.resolve());
      expect(await errorOf(fence.run(stale, effectNamed('s1', ['g0']), never, run))).toBeInstanceOf(StaleEpoch);
      expect(run).not.toHaveBeenCalled();
      expect(fence.isStale(stale)).toBe(true);
    }
    expect(fence.highest()).toEqual({ g0: 5, g1: 2 });
  });

  it('refuses an effect on a device that its turn does not hold', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const run = vi.fn(() => Promise.resolve());
    expect(await errorOf(fence.run(call('a', { g0: 1 }), effectNamed('s1', ['g0', 'g1']), never, run))).toBeInstanceOf(
      StaleEpoch,
    );
    expect(run).not.toHaveBeenCalled();
  });

  it('joins a repeated attempt to the one that runs', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const one = effect();
    const started = vi.fn(one.run);
    const first = fence.run(call('a', { g0: 1 }), effectNamed('1.s1', ['g0']), never, started);
    const second = fence.run(call('a', { g0: 1 }), effectNamed('1.s1', ['g0']), never, started);
    one.end('once');
    expect(await Promise.all([first, second])).toEqual(['once', 'once']);
    expect(started).toHaveBeenCalledOnce();
    const later = fence.run(call('a', { g0: 1 }), effectNamed('1.s1', ['g0']), never, started);
    one.end('anew');
    expect(await later).toBe('anew');
    expect(started).toHaveBeenCalledTimes(2);
  });

  it('ends a joined effect only when its last caller has gone', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const one = effect();
    const [a, b] = [new AbortController(), new AbortController()];
    const first = errorOf(fence.run(call('a', { g0: 1 }), effectNamed('s', ['g0']), a.signal, one.run));
    const second = errorOf(fence.run(call('a', { g0: 1 }), effectNamed('s', ['g0']), b.signal, one.run));
    a.abort(new Error('first left'));
    expect(one.wasAborted()).toBe(false);
    b.abort(new Error('second left'));
    expect(one.wasAborted()).toBe(true);
    for (const error of await Promise.all([first, second])) expect(error).toMatchObject({ message: 'second left' });
  });

  it('ends an effect whose caller had left before it began', async () => {
    const { fence } = fenceIn(testFolder());
    await fence.enter(call('a', { g0: 1 }));
    const one = effect();
    const error = await errorOf(
      fence.run(call('a', { g0: 1 }), effectNamed('s', ['g0']), AbortSignal.abort(new Error('gone')), one.run),
    );
    expect(error).toMatchObject({ message: 'gone' });
  });

  it('says when the last operation has left, and forgets one that fell silent', async () => {
    let now = 0;
    const { fence, idle } = fenceIn(testFolder(), () => now);
    await fence.enter(call('a', { g0: 1 }));
    await fence.enter(call('b', { g1: 1 }));
    fence.leave(call('a', {}).operation);
    fence.leave(call('unknown', {}).operation);
    expect(idle).not.toHaveBeenCalled();
    fence.leave(call('b', {}).operation);
    expect(idle).toHaveBeenCalledOnce();
    await fence.enter(call('c', { g0: 2 }));
    expect(fence.isHeld()).toBe(true);
    now = 15_001;
    expect(fence.isHeld()).toBe(false);
  });
});

test('at any moment the effects on a device are of one epoch, the highest seen, over restarts too', async () => {
  const move = fc.oneof(
    fc.record({ kind: fc.constantFrom('enter' as const, 'run' as const), device: fc.nat(1), behind: fc.nat(3) }),
    fc.record({ kind: fc.constantFrom('restart' as const, 'end' as const), device: fc.nat(1), behind: fc.constant(0) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(move, { minLength: 5, maxLength: 30 }), async (moves) => {
      const folder = testFolder();
      let { fence } = fenceIn(folder);
      let next = 0;
      let running: { device: string; epoch: number; stop: () => void }[] = [];
      const effects: Promise<unknown>[] = [];
      for (const { kind, device: nth, behind } of moves) {
        const device = `g${nth}`;
        const highest = fence.highest()[device] ?? 0;
        // The newest there is plus one, or one from the past.
        const epoch = highest + 1 - behind;
        next += 1;
        const of = call(`r${epoch}-${device}`, { [device]: epoch });
        if (kind === 'enter') {
          const refused = await errorOf(fence.enter(of));
          expect(refused instanceof StaleEpoch).toBe(epoch < highest);
          if (!refused) expect(running.filter((one) => one.device === device)).toEqual([]);
        } else if (kind === 'run') {
          if (epoch >= highest) await fence.enter(of);
          const mine = { device, epoch, stop: () => {} };
          const started = fence.run(of, effectNamed(`${next}`, [device]), never, (signal) => {
            running.push(mine);
            return new Promise<void>((resolve) => {
              mine.stop = () => {
                running = running.filter((one) => one !== mine);
                resolve();
              };
              // Ends a moment after it was told to.
              signal.addEventListener('abort', () => setImmediate(mine.stop));
            });
          });
          effects.push(errorOf(started));
          if (epoch < highest) expect(await errorOf(started)).toBeInstanceOf(StaleEpoch);
        } else if (kind === 'end') running.find((one) => one.device === device)?.stop();
        else {
          for (const one of running) one.stop();
          await Promise.all(effects);
          ({ fence } = fenceIn(folder));
          expect(fence.highest()[device] ?? 0).toBe(highest);
        }
        for (const one of running) expect(one.epoch).toBeGreaterThanOrEqual(fence.highest()[one.device] ?? 0);
      }
      for (const one of running) one.stop();
      await Promise.all(effects);
    }),
    { numRuns: 200 },
  );
});
