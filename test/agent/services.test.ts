import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ServiceChange, ServiceDriver, ServiceExit, ServiceSight } from '../../src/adapters/services/driver.js';
import { type Placements, type ServiceNews, Services } from '../../src/agent/services.js';
import { StateFile } from '../../src/agent/stateFile.js';
import { testFolder } from './folder.js';

const absent: ServiceSight = {
  service: 'one',
  state: 'absent',
  run: null,
  pids: [],
  runningForMs: null,
  lastExit: null,
};

/** A driver whose one service does what the test says. */
class FakeDriver implements ServiceDriver {
  readonly id = 'native';
  sight: ServiceSight = absent;
  runs = 0;
  /** It checks its service by itself. */
  checks = false;
  onStop: (signal: AbortSignal) => Promise<'stopped' | 'stuck'> = () => {
    this.sight = absent;
    return Promise.resolve('stopped');
  };
  private listener: (change: ServiceChange) => void = () => {};

  problem = () => null;
  sights = () => [this.sight];
  look = () => Promise.resolve();
  start() {
    this.runs += 1;
    const health = this.checks ? { health: 'starting' as const } : {};
    this.sight = {
      ...absent,
      ...health,
      state: 'running',
      run: `run ${this.runs}`,
      pids: [this.runs],
      runningForMs: 0,
    };
    return Promise.resolve(this.sight);
  }
  stop = (_: string, { signal }: { signal: AbortSignal }) => this.onStop(signal);
  async *logs() {}
  onChange(listener: (change: ServiceChange) => void) {
    this.listener = listener;
    return () => {};
  }
  close = () => Promise.resolve();

  /** Of its own check, as a HEALTHCHECK. */
  say(health: 'healthy' | 'unhealthy'): void {
    this.sight = { ...this.sight, health };
    this.listener({ kind: 'health', service: 'one' });
  }

  die(exit: ServiceExit): void {
    this.sight = { ...absent, lastExit: exit };
    this.listener({ kind: 'ended', service: 'one', exit });
  }
}

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
    new StateFile<Placements>(join(testFolder(), 'placements.json'), {}),
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
    const stop = services.stop('one', { graceMs: 1_000, signal: caller.signal });
    expect(state()).toBe('stopping');
    caller.abort(new Error('nobody waits for it'));
    await expect(stop).rejects.toThrow('nobody waits');
    await vi.waitFor(() => expect(state()).toBe('ready'));
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
      await services.stop('one', { graceMs: 0, signal: never() });
    }
    await services.close();
    return waits.map((wait) => Math.round(wait / 500) * 500);
  }

  it('P8: one that becomes unhealthy again and again is started anew less and less often', async () => {
    expect(await waitsOf(4, ({ health }) => void (health.ok = false))).toEqual([1_000, 2_000, 4_000, 8_000]);
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
    expect(services.view('one').heldBack).toMatch(/503; started again in 1 s/);
    health.ok = true;
    await vi.advanceTimersByTimeAsync(5_000);
    expect(state()).toBe('ready');
    expect(services.view('one').heldBack).toBeNull();
    expect(news.map(({ kind }) => kind)).toEqual(['unhealthy', 'healthy']);
    await services.close();
  });
});
