import { join } from 'node:path';
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createLogLineProbe } from '../../src/adapters/health/logLine.js';
import type { Run } from '../../src/agent/runs.js';
import { type ServiceNews, Services } from '../../src/agent/services.js';
import { StateFile } from '../../src/agent/stateFile.js';
import { FakeDriver } from './fakeDriver.js';
import { testFolder } from './folder.js';

const never = (): AbortSignal => new AbortController().signal;

function servicesOn(driver: FakeDriver, more: { probe?: null; startPeriodMs?: number } = {}) {
  const health = { ok: true };
  const { startPeriodMs = 60_000 } = more;
  const news: ServiceNews[] = [];
  const services = new Services(
    [
      {
        name: 'one',
        driver,
        probe:
          more.probe === null
            ? null
            : {
                check: () =>
                  Promise.resolve({ ok: health.ok, detail: health.ok ? 'it answers' : 'it answers 503', ms: 1 }),
              },
        health: { startPeriodMs, intervalMs: 100, failuresToUnhealthy: 2, successesToReady: 1 },
        usesGpu: true,
      },
    ],
    new StateFile<Record<string, Run>>(join(testFolder(), 'placements.json'), {}),
    () => performance.now(),
  );
  services.onNews((one) => news.push(one));
  const state = () => services.view('one').health.state;
  return { services, health, news, state };
}

describe('the services of an agent', () => {
  afterEach(() => void vi.useRealTimers());

  it('a stop that was given up leaves a service that is what it is, not one that is being stopped for ever', async () => {
    const driver = new FakeDriver();
    const { services, state } = servicesOn(driver);
    await services.start('one', [], never());
    const caller = new AbortController();
    driver.onStop = (signal) =>
      new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    const stop = services.stop('one', { graceMs: 1_000, endMs: 5_000, signal: caller.signal });
    expect(state()).toBe('stopping');
    caller.abort(new Error('nobody waits for it'));
    await expect(stop).rejects.toThrow('nobody waits');
    await vi.waitFor(() => expect(state()).toBe('ready'));
    await services.close();
  });

  it('is not held up by a driver that hangs once the time of a start or a stop is over (law 8)', async () => {
    const driver = new FakeDriver();
    const { services, news } = servicesOn(driver);
    let isThere: (stopped: 'stopped') => void = () => {};
    driver.onStop = () =>
      new Promise((resolve) => {
        isThere = resolve;
      });
    await services.start('one', [], never());
    expect(await services.stop('one', { graceMs: 0, endMs: 50, signal: never() })).toBe('stuck');
    // It ends after all: that was asked for, and is no death.
    driver.die({ code: 0, signal: null, reason: 'exit code 0' });
    isThere('stopped');
    expect(news).toEqual([]);

    driver.start = () => new Promise(() => {});
    await expect(services.start('one', [], AbortSignal.timeout(50))).rejects.toThrow(/timeout/i);
    expect(services.hasEnded('one'), 'it may come yet').toBe(false);
    await services.close();
  });

  it("takes the driver's own check for its health where none is configured, and only there", async () => {
    const driver = new FakeDriver();
    driver.checks = true;
    const { services, news, state } = servicesOn(driver, { probe: null });
    const start = services.start('one', [], never());
    await vi.waitFor(() => expect(services.view('one').health.detail).toContain('HEALTHCHECK says: starting'));
    expect(state()).toBe('starting');
    driver.say('healthy');
    expect((await start).health).toMatchObject({ state: 'ready', detail: 'its own HEALTHCHECK says: healthy' });
    driver.say('unhealthy');
    await vi.waitFor(() => expect(state()).toBe('unhealthy'));
    driver.say('healthy');
    await vi.waitFor(() => expect(state()).toBe('ready'));
    expect(news.map(({ kind }) => kind)).toEqual(['unhealthy', 'healthy']);
    await services.close();

    const other = new FakeDriver();
    other.checks = true;
    const probed = servicesOn(other);
    await probed.services.start('one', [], never());
    other.say('unhealthy');
    expect(await probed.services.start('one', [], never())).toMatchObject({ health: { detail: 'it answers' } });
    await probed.services.close();
  });

  it("says that it is unhealthy when the driver's check has not passed by the end of its start period", async () => {
    const driver = new FakeDriver();
    driver.checks = true;
    const { services } = servicesOn(driver, { probe: null, startPeriodMs: 150 });
    await expect(services.start('one', [], never())).rejects.toThrow('its own HEALTHCHECK says: starting');
    await services.close();
  });

  /** Starts it, makes it unwell by `fall`, and starts it anew as a reconciliation does: the waits, ms. */
  async function waitsOf(times: number, fall: (parts: ReturnType<typeof servicesOn>) => void): Promise<number[]> {
    vi.useFakeTimers();
    const driver = new FakeDriver();
    const parts = servicesOn(driver);
    const { services, health, news, state } = parts;
    const until = async (holds: () => boolean): Promise<number> => {
      const began = performance.now();
      while (!holds() && performance.now() - began < 100_000) await vi.advanceTimersByTimeAsync(50);
      expect(holds()).toBe(true);
      return performance.now() - began;
    };
    const waits: number[] = [];
    for (let time = 0; time < times; time += 1) {
      const start = services.start('one', [], never());
      await until(() => state() === 'ready');
      await start;
      fall(parts);
      await until(() => services.view('one').heldBack !== null);
      waits.push(await until(() => news.at(-1)?.kind === 'released'));
      health.ok = true;
      await services.stop('one', { graceMs: 0, endMs: 5_000, signal: never() });
    }
    await services.close();
    return waits.map((wait) => Math.round(wait / 500) * 500);
  }

  it('one that a stop did not end is checked anew when it is to run again', async () => {
    vi.useFakeTimers();
    const driver = new FakeDriver();
    const { services, state } = servicesOn(driver);
    const begun = services.start('one', [], never());
    await vi.advanceTimersByTimeAsync(500);
    await begun;
    driver.onStop = () => Promise.resolve('stuck');
    expect(await services.stop('one', { graceMs: 0, endMs: 5_000, signal: never() })).toBe('stuck');
    expect(state()).toBe('stopping');
    const again = services.start('one', [], never());
    await vi.advanceTimersByTimeAsync(500);
    expect((await again).health.state).toBe('ready');
    expect(driver.runs).toBe(1);
    await services.close();
  });

  it('P8: one that becomes unhealthy again and again is started anew less and less often', async () => {
    expect(await waitsOf(4, ({ health }) => void (health.ok = false))).toEqual([1_000, 2_000, 4_000, 8_000]);
  });

  it('P8: one that does not come up again and again is tried again less and less often', async () => {
    vi.useFakeTimers();
    const driver = new FakeDriver();
    const { services, health, news } = servicesOn(driver);
    health.ok = false;
    const waits: number[] = [];
    for (let time = 0; time < 4; time += 1) {
      const start = services.start('one', [], never()).catch((error: unknown) => error);
      await vi.advanceTimersByTimeAsync(150);
      driver.die({ code: 1, signal: null, reason: 'exit code 1' });
      await vi.advanceTimersByTimeAsync(150);
      expect(String(await start)).toMatch(/did not become ready: exit code 1/);
      // What the activity does with what a failed start left.
      await services.stop('one', { graceMs: 0, endMs: 5_000, signal: never() });
      services.failed('one', 'it did not become ready');
      expect(services.view('one').heldBack?.reason).toBe('it did not become ready');
      const told = news.length;
      const since = performance.now();
      while (news.length === told && performance.now() - since < 100_000) await vi.advanceTimersByTimeAsync(50);
      expect(news.at(-1)?.kind).toBe('released');
      waits.push(Math.round((performance.now() - since) / 500) * 500);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000]);
    await services.close();
  });

  it('one that is well again by itself is not held back', async () => {
    vi.useFakeTimers();
    const driver = new FakeDriver();
    const { services, health, news, state } = servicesOn(driver);
    const start = services.start('one', [], never());
    await vi.advanceTimersByTimeAsync(200);
    await start;
    health.ok = false;
    await vi.advanceTimersByTimeAsync(300);
    expect(state()).toBe('unhealthy');
    expect(services.view('one').heldBack?.reason).toMatch(/503/);
    expect(Date.parse(services.view('one').heldBack?.nextTryAt ?? '') - Date.now()).toBeLessThanOrEqual(1_000);
    health.ok = true;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(state()).toBe('ready');
    expect(services.view('one').heldBack).toBeNull();
    expect(news.map(({ kind }) => kind)).toEqual(['unhealthy', 'healthy']);
    await services.close();
  });
});

describe('a service that tells by a line in its log that it is ready', () => {
  const START_PERIOD_MS = 2_000;

  /** @param folder of a former agent, for its successor */
  function chatty(driver: FakeDriver, log: string[], folder = testFolder()) {
    vi.useFakeTimers();
    const lines = async function* () {
      yield* log;
    };
    const services = new Services(
      [
        {
          name: 'one',
          driver,
          probe: createLogLineProbe({ match: { contains: 'ready' }, lines }),
          health: { startPeriodMs: START_PERIOD_MS, intervalMs: 100, failuresToUnhealthy: 2, successesToReady: 1 },
          usesGpu: true,
        },
      ],
      new StateFile<Record<string, Run>>(join(folder, 'placements.json'), {}),
      () => performance.now(),
    );
    const news: ServiceNews[] = [];
    services.onNews((one) => news.push(one));
    onTestFinished(async () => {
      await services.close();
      vi.useRealTimers();
    });
    return { services, news, folder, state: () => services.view('one').health.state };
  }

  async function ready(driver: FakeDriver) {
    const log = ['loading', 'ready'];
    const parts = chatty(driver, log);
    const start = parts.services.start('one', [], never());
    await vi.advanceTimersByTimeAsync(50);
    await start;
    return { ...parts, log };
  }

  const later = () => vi.advanceTimersByTimeAsync(START_PERIOD_MS + 1_000);

  it('stays ready when that line has left the log', async () => {
    const { log, state, news } = await ready(new FakeDriver());
    log.splice(0, 2, 'a request', 'another request');
    await later();
    expect(state()).toBe('ready');
    log.length = 0;
    await later();
    expect(state()).toBe('ready');
    expect(news).toEqual([]);
  });

  it('has to say it again in each run', async () => {
    const driver = new FakeDriver();
    const { services, log, state } = await ready(driver);
    await services.stop('one', { graceMs: 0, endMs: 5_000, signal: never() });
    log.splice(0, 2, 'loading');
    const start = services.start('one', [], never()).catch((error: unknown) => error);
    await later();
    expect(String(await start)).toMatch(/none of 1 lines of its output has "ready"/);
    expect(state()).toBe('unhealthy');
  });

  it('is ready still when a stop was given up', async () => {
    const driver = new FakeDriver();
    const { services, log, state } = await ready(driver);
    log.length = 0;
    driver.onStop = () => Promise.reject(new Error('nobody waits for it'));
    await expect(services.stop('one', { graceMs: 0, endMs: 5_000, signal: never() })).rejects.toThrow('nobody waits');
    await later();
    expect(state()).toBe('ready');
  });

  it('is ready at once for a successor of the agent, whatever its log still shows', async () => {
    const driver = new FakeDriver();
    const { services, folder } = await ready(driver);
    await services.close();
    const next = chatty(driver, ['a request'], folder);
    await next.services.look(never());
    await vi.advanceTimersByTimeAsync(50);
    expect(next.state()).toBe('ready');
    await later();
    expect(next.state()).toBe('ready');
    expect(next.news).toEqual([]);
  });

  it('is not ready for a successor when no agent of ours saw it ready', async () => {
    const driver = new FakeDriver();
    const former = chatty(driver, []);
    const start = former.services.start('one', [], never()).catch((error: unknown) => error);
    await vi.advanceTimersByTimeAsync(50);
    await former.services.close();
    await vi.advanceTimersByTimeAsync(200);
    expect(String(await start)).toMatch(/the agent ends/);
    const next = chatty(driver, ['loading'], former.folder);
    await next.services.look(never());
    await later();
    expect(next.state()).toBe('unhealthy');
  });

  it('counts as ready when others started it, and it has outlasted a start', async () => {
    const driver = new FakeDriver();
    const { services, news, state } = chatty(driver, ['a request']);
    await driver.start();
    await services.look(never());
    await vi.advanceTimersByTimeAsync(START_PERIOD_MS / 2);
    expect(state()).toBe('starting');
    await later();
    expect(state()).toBe('ready');
    expect(news.map(({ kind }) => kind)).toEqual(['appeared']);
  });
});
