/** Whether the run of one service works: its health, and the checks that tell it (P2, P8). */
import type { HealthProbe, HealthResult } from '../adapters/health/check.js';
import type { ServiceSight } from '../adapters/services/driver.js';
import {
  afterHealthEvent,
  type HealthEvent,
  type HealthPolicy,
  nextCheckInMs,
  type ServiceHealth,
  unstarted,
} from '../domain/serviceHealth.js';

/** A service without a check is ready when it has run for so long: what fails at its start has ended by then. */
const UNCHECKED_MS = 1_500;

export interface CheckedService {
  /** Null: the driver's own check counts; where it makes none, a service that has run for a moment is ready. */
  probe: HealthProbe | null;
  health: HealthPolicy;
}

/** What is known of the run that is checked. */
interface CheckedRun {
  /** It has been ready, maybe under a former agent. */
  wasReady: boolean;
  /** An agent of ours saw it begin. */
  isOurs: boolean;
}

interface Listener {
  /** Something is known anew. */
  onEvent(): void;
  /** A check found another state than before. */
  onFound(before: ServiceHealth, reason: string): void;
}

export class ServiceChecks {
  health: ServiceHealth;
  private checking: AbortController | null = null;

  constructor(
    private readonly service: CheckedService,
    private readonly of: { now(): number; sight(): ServiceSight; run(): CheckedRun },
    private readonly listener: Listener,
  ) {
    this.health = unstarted(of.now());
  }

  /** Finds out anew whether its run works. */
  begin({ runningForMs }: ServiceSight): void {
    // A start that nobody here made has its age: it gets no second start period.
    const ageMs = runningForMs ?? 0;
    this.apply({ kind: 'started', atMs: this.of.now() - ageMs });
    const { probe } = this;
    this.checkAnew((signal) =>
      probe === null ? this.outlast(UNCHECKED_MS - ageMs, signal) : this.check(probe, signal),
    );
  }

  /** The driver's own check has something new to say. */
  driverSaid(): void {
    const { probe } = this;
    if (this.service.probe === null && probe !== null) this.checkAnew((signal) => this.check(probe, signal));
  }

  stopping(): void {
    this.apply({ kind: 'stopping', atMs: this.of.now() });
  }

  ended(detail: string): void {
    this.leave('its run has ended');
    this.apply({ kind: 'ended', atMs: this.of.now(), detail });
  }

  /** The configured check, else the driver's own, as a container's HEALTHCHECK. */
  private get probe(): HealthProbe | null {
    if (this.service.probe !== null) return this.service.probe;
    return this.of.sight().health === undefined ? null : driversWord(() => this.of.sight());
  }

  private checkAnew(check: (signal: AbortSignal) => Promise<void>): void {
    this.leave('it is checked anew');
    this.checking = new AbortController();
    void check(this.checking.signal);
  }

  leave(reason: string): void {
    this.checking?.abort(new Error(reason));
    this.checking = null;
  }

  /** Where no check is configured: it runs, and has not ended at its start. */
  private async outlast(ms: number, signal: AbortSignal): Promise<void> {
    await pauseOrAbort(Math.max(0, ms), signal);
    if (signal.aborted) return;
    this.apply({ kind: 'checked', atMs: this.of.now(), ok: true, detail: 'it runs; no check is configured' });
  }

  private async check(probe: HealthProbe, signal: AbortSignal): Promise<void> {
    const policy = this.service.health;
    while (!signal.aborted) {
      const result = await this.look(probe, signal);
      if (signal.aborted) return;
      const before = this.health;
      this.apply({ kind: 'checked', atMs: this.of.now(), ok: result.ok, detail: result.detail });
      if (this.health.state !== before.state) this.listener.onFound(before, result.detail);
      // Null: a stop is under way.
      await pauseOrAbort(nextCheckInMs(this.health, policy) ?? policy.intervalMs, signal);
    }
  }

  private async look(probe: HealthProbe, signal: AbortSignal): Promise<Omit<HealthResult, 'ms'>> {
    const { wasReady, isOurs } = this.of.run();
    if (probe.once && wasReady) return { ok: true, detail: 'it runs, and this run has been ready' };
    // A check that breaks off says nothing good: unknown is not healthy.
    const found = await probe.check(signal).catch((error: unknown) => ({ ok: false, detail: String(error) }));
    if (found.ok || !probe.once || isOurs) return found;
    // What it said before anybody looked may be gone from its log: that it outlasts a start has to do.
    const ageMs = this.of.now() - (this.health.runSinceMs ?? this.of.now());
    return ageMs < this.service.health.startPeriodMs ? found : { ok: true, detail: `it runs; ${found.detail}` };
  }

  private apply(event: HealthEvent): void {
    this.health = afterHealthEvent(this.health, event, this.service.health);
    this.listener.onEvent();
  }
}

function pauseOrAbort(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(ended, ms);
    function ended() {
      clearTimeout(timer);
      signal.removeEventListener('abort', ended);
      resolve();
    }
    signal.addEventListener('abort', ended, { once: true });
  });
}

/** From memory: the driver is told by events. */
const driversWord = (sight: () => ServiceSight): HealthProbe => ({
  check() {
    const { health } = sight();
    const detail = `its own HEALTHCHECK says: ${health ?? 'nothing'}`;
    return Promise.resolve({ ok: health === 'healthy', detail, ms: 0 });
  },
});
