/** The services of a host as its agent sees them: what the drivers see, and what the health checks say (P2, P8). */
import type { HealthProbe } from '../adapters/health/check.js';
import type { ServiceChange, ServiceDriver, ServiceExit, ServiceSight } from '../adapters/services/driver.js';
import { ServiceError } from '../adapters/services/driver.js';
import { nextRestart } from '../domain/restartPolicy.js';
import {
  afterHealthEvent,
  type HealthEvent,
  type HealthPolicy,
  nextCheckInMs,
  type ServiceHealth,
  unstarted,
} from '../domain/serviceHealth.js';
import type { StateFile } from './stateFile.js';

/** A service of the configuration, with what it is checked by. */
export interface ManagedService {
  name: string;
  driver: ServiceDriver;
  /** Null: a service that has run for a moment is ready. */
  probe: HealthProbe | null;
  health: HealthPolicy;
  usesGpu: boolean;
}

/** Why, and until when: ISO time. */
export interface HeldBack {
  reason: string;
  nextTryAt: string;
}

/** What the agent says of one service. */
export interface ServiceView {
  name: string;
  sight: ServiceSight;
  health: ServiceHealth;
  /** The GPUs that it was started on; null: nobody knows. */
  gpus: string[] | null;
  /** It failed or is unhealthy, and is not started again by itself before its back-off has passed. */
  heldBack: HeldBack | null;
}

/** Something that an operation did not do. */
export type ServiceNews =
  | { kind: 'died'; service: string; reason: string }
  | { kind: 'unhealthy'; service: string; reason: string }
  | { kind: 'healthy'; service: string }
  | { kind: 'appeared'; service: string }
  /** Its back-off has passed: it may be started again. */
  | { kind: 'released'; service: string }
  | { kind: 'driver-away'; driver: string; reason: string }
  | { kind: 'driver-back'; driver: string };

interface Tracked {
  service: ManagedService;
  health: ServiceHealth;
  run: string | null;
  restarts: number;
  heldBackUntil: number;
  heldBack: HeldBack | null;
  /** An operation works at it: what happens to it is no news. */
  worked: number;
  checking: AbortController | null;
}

/** Which GPUs a run was started on, by service. */
export type Placements = Record<string, { run: string; gpus: string[] }>;

const LOG_LINES = 8;
/** Bounds the reading of the last lines of something that may hang. */
const LOGS_MS = 2_000;
const READY_LOOK_MS = 100;
/** A service without a check is ready when it has run for so long: what fails at its start has ended by then. */
const UNCHECKED_MS = 1_500;

/** A start that did not end well, with the last lines that the service wrote. */
export class NotReady extends Error {}

export class Services {
  private readonly tracked = new Map<string, Tracked>();
  private readonly drivers: ServiceDriver[];
  private readonly listeners = new Set<(news: ServiceNews) => void>();
  private readonly waiters = new Set<() => void>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private stopped = false;

  constructor(
    services: ManagedService[],
    private readonly placements: StateFile<Placements>,
    private readonly now: () => number,
  ) {
    this.drivers = [...new Set(services.map(({ driver }) => driver))];
    for (const service of services) {
      this.tracked.set(service.name, {
        service,
        health: unstarted(now()),
        run: null,
        restarts: 0,
        heldBackUntil: 0,
        heldBack: null,
        worked: 0,
        checking: null,
      });
    }
    for (const driver of this.drivers) driver.onChange((change) => this.onChange(driver, change));
  }

  /** Looks at all drivers, and takes up what runs already (law 6). */
  async look(signal: AbortSignal): Promise<void> {
    await Promise.all(this.drivers.map((driver) => driver.look(signal)));
    for (const one of this.tracked.values()) this.follow(one);
  }

  onNews(listener: (news: ServiceNews) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Why a driver cannot be asked; null when it can, or when no service needs it. */
  problem(id: ServiceDriver['id']): string | null {
    return this.drivers.find((driver) => driver.id === id)?.problem() ?? null;
  }

  uses(id: ServiceDriver['id']): boolean {
    return this.drivers.some((driver) => driver.id === id);
  }

  views(): ServiceView[] {
    return [...this.tracked.values()].map((one) => this.viewOf(one));
  }

  view(name: string): ServiceView {
    return this.viewOf(this.find(name));
  }

  logs(name: string, options: { tail: number; follow: boolean; signal: AbortSignal }): AsyncIterable<string> {
    return this.find(name).service.driver.logs(name, options);
  }

  /** The last lines, for messages; empty where they cannot be had. */
  async lastLines(name: string): Promise<string[]> {
    const lines: string[] = [];
    const signal = AbortSignal.timeout(LOGS_MS);
    try {
      for await (const line of this.logs(name, { tail: LOG_LINES, follow: false, signal })) lines.push(line);
    } catch (error) {
      lines.push(`(its log cannot be read: ${error instanceof Error ? error.message : String(error)})`);
    }
    return lines;
  }

  /**
   * Makes it run and waits until it is ready.
   * @throws NotReady when it ends or is unhealthy before, ServiceError, and the signal's reason
   */
  async start(name: string, gpus: string[], signal: AbortSignal): Promise<ServiceView> {
    const one = this.find(name);
    const { driver } = one.service;
    return this.working(one, async () => {
      one.heldBack = null;
      const sight = await driver.start(name, { gpus, signal });
      if (sight.run !== null) this.placements.set({ ...this.placements.get(), [name]: { run: sight.run, gpus } });
      this.follow(one);
      return this.comesUp(one, signal);
    });
  }

  /** For a start that nobody waits for any more. @throws NotReady, also when this agent ends first */
  untilReady(name: string): Promise<ServiceView> {
    return this.comesUp(this.find(name), new AbortController().signal);
  }

  isClosed(): boolean {
    return this.stopped;
  }

  /** P8: an operation could not bring it up, which counts as a death. */
  failed(name: string, reason: string): void {
    const one = this.tracked.get(name);
    if (one !== undefined && one.health.state !== 'ready' && one.heldBack === null) this.holdBack(one, reason, 0);
  }

  /** @returns `stuck` when it was killed and is still there. @throws the signal's reason: it goes on, or ends a moment later */
  async stop(name: string, options: { graceMs: number; signal: AbortSignal }): Promise<'stopped' | 'stuck'> {
    const one = this.find(name);
    return this.working(one, async () => {
      const wasWell = one.health.state === 'ready';
      this.apply(one, { kind: 'stopping', atMs: this.now() });
      try {
        const result = await one.service.driver.stop(name, options);
        this.follow(one);
        // One that is unwell, or does not come up, again and again waits longer and longer (P8).
        if (wasWell) one.restarts = 0;
        one.heldBack = null;
        return result;
      } catch (error) {
        this.follow(one);
        // The stop was given up: nobody wants it to end any more.
        if (one.run !== null) this.watch(one, this.sightOf(one));
        throw error;
      }
    });
  }

  async close(): Promise<void> {
    this.stopped = true;
    for (const timer of this.timers) clearTimeout(timer);
    for (const one of this.tracked.values()) one.checking?.abort(new Error('the agent ends'));
    await Promise.all(this.drivers.map((driver) => driver.close()));
  }

  private async comesUp(one: Tracked, signal: AbortSignal): Promise<ServiceView> {
    for (;;) {
      const { state, detail } = one.health;
      if (state === 'ready') return this.viewOf(one);
      if (this.stopped) throw new NotReady('the agent ends');
      if (state !== 'starting') throw await this.notReady(one, detail ?? `it is ${state}`);
      await this.change(signal);
    }
  }

  private async notReady(one: Tracked, reason: string): Promise<NotReady> {
    const lines = await this.lastLines(one.service.name);
    const last = lines.length === 0 ? '' : `; its last lines:\n${lines.join('\n')}`;
    return new NotReady(`${one.service.name} did not become ready: ${reason}${last}`);
  }

  private async working<T>(one: Tracked, work: () => Promise<T>): Promise<T> {
    one.worked += 1;
    try {
      return await work();
    } finally {
      one.worked -= 1;
    }
  }

  private find(name: string): Tracked {
    const one = this.tracked.get(name);
    if (one === undefined) throw new ServiceError('missing', `There is no service "${name}".`, 'Name one of services.');
    return one;
  }

  private sightOf({ service }: Tracked): ServiceSight {
    const sight = service.driver.sights().find((one) => one.service === service.name);
    return (
      sight ?? { service: service.name, state: 'unknown', run: null, pids: [], runningForMs: null, lastExit: null }
    );
  }

  private viewOf(one: Tracked): ServiceView {
    const sight = this.sightOf(one);
    const placed = this.placements.get()[one.service.name];
    const gpus = sight.gpus ?? (placed !== undefined && placed.run === sight.run ? placed.gpus : null);
    return { name: one.service.name, sight, health: one.health, gpus, heldBack: one.heldBack };
  }

  private onChange(driver: ServiceDriver, change: ServiceChange): void {
    if (this.stopped) return;
    if (change.kind === 'driver-away') {
      this.tell({ kind: 'driver-away', driver: driver.id, reason: change.reason });
      return;
    }
    if (change.kind === 'driver-back') {
      this.tell({ kind: 'driver-back', driver: driver.id });
      for (const one of this.tracked.values()) if (one.service.driver === driver) this.follow(one);
      return;
    }
    const one = this.tracked.get(change.service);
    if (one !== undefined) this.follow(one, change.kind === 'ended' ? change.exit : null);
  }

  /** Brings what is known of a service up to what its driver sees. */
  private follow(one: Tracked, exit: ServiceExit | null = null): void {
    const sight = this.sightOf(one);
    if (sight.state === 'unknown') return;
    const isAnother = sight.run !== one.run;
    if (one.run !== null && (sight.state === 'absent' || isAnother)) this.ended(one, exit ?? sight.lastExit);
    if (sight.state === 'running' && isAnother) this.began(one, sight);
    this.wake();
  }

  private began(one: Tracked, sight: ServiceSight): void {
    one.run = sight.run;
    this.watch(one, sight);
    const isKnown = this.placements.get()[one.service.name]?.run === sight.run;
    if (one.worked === 0 && !isKnown) this.tell({ kind: 'appeared', service: one.service.name });
  }

  /** Finds out anew whether its run works. */
  private watch(one: Tracked, sight: ServiceSight): void {
    one.checking?.abort(new Error('it is checked anew'));
    // A start that nobody here made has its age: it gets no second start period.
    this.apply(one, { kind: 'started', atMs: this.now() - (sight.runningForMs ?? 0) });
    if (one.service.probe !== null) void this.check(one, one.service.probe);
    else this.later(Math.max(0, UNCHECKED_MS - (sight.runningForMs ?? 0)), () => this.lasts(one, sight.run));
  }

  /** Where no check is configured: it runs, and has not ended at its start. */
  private lasts(one: Tracked, run: string | null): void {
    if (one.run !== run) return;
    this.apply(one, { kind: 'checked', atMs: this.now(), ok: true, detail: 'it runs; no check is configured' });
  }

  private ended(one: Tracked, exit: ServiceExit | null): void {
    const reason = exit?.reason ?? 'it ended';
    const wanted = one.health.state === 'stopping' || one.worked > 0;
    const healthyForMs = one.health.state === 'ready' ? this.now() - one.health.sinceMs : 0;
    one.checking?.abort(new Error('its run has ended'));
    one.checking = null;
    one.run = null;
    this.apply(one, { kind: 'ended', atMs: this.now(), detail: reason });
    if (wanted) return;
    this.holdBack(one, reason, healthyForMs);
    this.tell({ kind: 'died', service: one.service.name, reason });
  }

  /** P8: a service that dies, or is unhealthy, again and again is started again less and less often. */
  private holdBack(one: Tracked, reason: string, healthyForMs: number): void {
    const { delayMs, restarts } = nextRestart(one.restarts, healthyForMs);
    one.restarts = restarts;
    one.heldBackUntil = this.now() + delayMs;
    one.heldBack = { reason, nextTryAt: new Date(Date.now() + delayMs).toISOString() };
    this.later(delayMs, () => {
      if (one.heldBack === null || this.now() < one.heldBackUntil - 1) return;
      one.heldBack = null;
      this.tell({ kind: 'released', service: one.service.name });
    });
  }

  private async check(one: Tracked, probe: HealthProbe): Promise<void> {
    const { run } = one;
    const stop = new AbortController();
    one.checking = stop;
    while (!this.stopped && !stop.signal.aborted && one.run === run) {
      // A check that breaks off says nothing good: unknown is not healthy.
      const result = await probe.check(stop.signal).catch((error: unknown) => ({ ok: false, detail: String(error) }));
      if (stop.signal.aborted || one.run !== run) return;
      const before = one.health;
      this.apply(one, { kind: 'checked', atMs: this.now(), ok: result.ok, detail: result.detail });
      if (one.health.state !== before.state && one.worked === 0) this.changed(one, before, result.detail);
      const waitMs = nextCheckInMs(one.health, one.service.health);
      // A stop is under way.
      await this.pauseOrAbort(waitMs ?? one.service.health.intervalMs, stop.signal);
    }
  }

  /** Its state is another after a check that no operation waits for. */
  private changed(one: Tracked, before: ServiceHealth, reason: string): void {
    const service = one.service.name;
    if (one.health.state === 'unhealthy') {
      this.holdBack(one, reason, before.state === 'ready' ? this.now() - before.sinceMs : 0);
      this.tell({ kind: 'unhealthy', service, reason });
    }
    if (one.health.state === 'ready' && before.state === 'unhealthy') {
      one.heldBack = null;
      this.tell({ kind: 'healthy', service });
    }
  }

  private apply(one: Tracked, event: HealthEvent): void {
    one.health = afterHealthEvent(one.health, event, one.service.health);
    this.wake();
  }

  private tell(news: ServiceNews): void {
    for (const listener of this.listeners) listener(news);
  }

  private wake(): void {
    for (const waiter of this.waiters) waiter();
  }

  /** Until something is known anew; at the latest after a moment. */
  private change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (finish: () => void) => () => {
        clearTimeout(timer);
        this.waiters.delete(woken);
        signal.removeEventListener('abort', aborted);
        finish();
      };
      const woken = done(resolve);
      const aborted = done(() => reject(signal.reason as Error));
      const timer = setTimeout(woken, READY_LOOK_MS);
      this.waiters.add(woken);
      signal.addEventListener('abort', aborted, { once: true });
      if (signal.aborted) aborted();
    });
  }

  private later(ms: number, action: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (!this.stopped) action();
    }, ms);
    this.timers.add(timer);
  }

  private pauseOrAbort(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(ended, ms);
      function ended() {
        clearTimeout(timer);
        signal.removeEventListener('abort', ended);
        resolve();
      }
      signal.addEventListener('abort', ended, { once: true });
    });
  }
}
