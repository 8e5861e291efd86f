import type { ServiceChange, ServiceDriver, ServiceExit, ServiceSight } from '../../src/adapters/services/driver.js';
import type { ManagedService } from '../../src/agent/services.js';

export const absent: ServiceSight = {
  service: 'one',
  state: 'absent',
  run: null,
  pids: [],
  runningForMs: null,
  lastExit: null,
};

/** A driver whose one service does what the test says. */
export class FakeDriver implements ServiceDriver {
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

  problem: () => string | null = () => null;
  sights = () => [this.sight];
  look = () => Promise.resolve();
  start() {
    if (this.sight.state === 'running') return Promise.resolve(this.sight);
    this.runs += 1;
    const health = this.checks ? { health: 'starting' as const } : {};
    const run = `run ${this.runs}`;
    this.sight = { ...absent, ...health, state: 'running', run, pids: [this.runs], runningForMs: 0 };
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

/** The driver's one service, which answers when it is asked. */
export const managedBy = (driver: FakeDriver): ManagedService => ({
  name: 'one',
  driver,
  probe: { check: () => Promise.resolve({ ok: true, detail: 'it answers', ms: 1 }) },
  health: { startPeriodMs: 60_000, intervalMs: 100, failuresToUnhealthy: 2, successesToReady: 1 },
  usesGpu: true,
});
