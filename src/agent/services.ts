/** The services of a host as its agent sees them: which runs there are, how they come and go, when they are tried again. */
import type { ServiceChange, ServiceDriver, ServiceExit, ServiceSight } from '../adapters/services/driver.js';
import { ServiceError } from '../adapters/services/driver.js';
import { isOver, timeLimit } from '../adapters/timeLimit.js';
import type { ServiceHealth } from '../domain/serviceHealth.js';
import type { EndTimes } from '../domain/timeouts.js';
import { BackOff, type HeldBack } from './backOff.js';
import { type Run, Runs } from './runs.js';
import { type CheckedService, ServiceChecks } from './serviceChecks.js';
import type { StateFile } from './stateFile.js';
import { Waiters } from './waiters.js';

/** A service of the configuration, with what it is checked by. */
export interface ManagedService extends CheckedService {
  name: string;
  driver: ServiceDriver;
  usesGpu: boolean;
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
  checks: ServiceChecks;
  run: string | null;
  /** The run began by an agent of ours. */
  isOurs: boolean;
  backOff: BackOff;
  /** An operation works at it: what happens to it is no news. */
  worked: number;
  /** Its driver begins a run, maybe for nobody any more. */
  starting: number;
}

const LOG_LINES = 8;
/** Bounds the reading of the last lines of something that may hang. */
const LOGS_MS = 2_000;
const READY_LOOK_MS = 100;

/** A start that did not end well, with the last lines that the service wrote. */
export class NotReady extends Error {}

export class Services {
  private readonly tracked = new Map<string, Tracked>();
  readonly runs: Runs;
  private readonly drivers: ServiceDriver[];
  private readonly listeners = new Set<(news: ServiceNews) => void>();
  private readonly waiters = new Waiters();
  private stopped = false;

  constructor(
    services: ManagedService[],
    runs: StateFile<Record<string, Run>>,
    private readonly now: () => number,
  ) {
    this.runs = new Runs(runs);
    this.drivers = [...new Set(services.map(({ driver }) => driver))];
    for (const service of services) this.tracked.set(service.name, this.track(service));
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
      one.backOff.end();
      one.starting += 1;
      const starting = driver.start(name, { gpus, signal }).finally(() => {
        one.starting -= 1;
      });
      const sight = await this.inTime(one, starting, signal);
      if (sight.run !== null) this.runs.started(name, sight.run, gpus);
      this.follow(one);
      // A stop did not end it, and now it is to stay.
      if (one.run !== null && one.checks.health.state === 'stopping') one.checks.begin(this.sightOf(one));
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
    if (one !== undefined && one.checks.health.state !== 'ready' && one.backOff.heldBack() === null) {
      one.backOff.hold(reason, 0);
    }
  }

  /**
   * Asks it to end, and kills it when its grace has passed.
   * @returns `stuck` when it is still there after `endMs`, whatever holds it or its driver up (law 8)
   * @throws the signal's reason, unless that is a time limit: it goes on, or ends a moment later
   */
  async stop(name: string, { graceMs, endMs, signal }: EndTimes & { signal: AbortSignal }) {
    const one = this.find(name);
    return this.working(one, async () => {
      const wasWell = one.checks.health.state === 'ready';
      one.checks.stopping();
      try {
        const bounded = AbortSignal.any([signal, timeLimit(endMs)]);
        const stopping = one.service.driver.stop(name, { graceMs, signal: bounded });
        const result = await this.inTime(one, stopping, bounded).catch((error: unknown) => {
          if (!isOver(bounded)) throw error;
          return 'stuck' as const;
        });
        this.follow(one);
        // One that is unwell, or does not come up, again and again waits longer and longer (P8).
        if (wasWell) one.backOff.forget();
        else one.backOff.end();
        return this.hasEnded(name) ? 'stopped' : result;
      } catch (error) {
        this.follow(one);
        // The stop was given up: nobody wants it to end any more.
        if (one.run !== null) one.checks.begin(this.sightOf(one));
        throw error;
      }
    });
  }

  /** Nothing of it lives, nor of an earlier run. Of one that nobody can tell of that is not known (law 1). */
  hasEnded(name: string): boolean {
    const one = this.find(name);
    const { state, pids } = this.sightOf(one);
    return state === 'absent' && pids.length === 0 && one.starting === 0;
  }

  async close(): Promise<void> {
    this.stopped = true;
    for (const { checks, backOff } of this.tracked.values()) {
      checks.leave('the agent ends');
      backOff.end();
    }
    await Promise.all(this.drivers.map((driver) => driver.close()));
  }

  private track(service: ManagedService): Tracked {
    const checks = new ServiceChecks(
      service,
      { now: this.now, sight: () => this.sightOf(one), run: () => this.runOf(one) },
      {
        onEvent: () => this.waiters.wake(),
        onFound: (before, reason) => {
          const { run } = one;
          if (service.probe?.once && run !== null && one.checks.health.state === 'ready') {
            this.runs.ready(service.name, run);
          }
          if (one.worked === 0) this.changed(one, before, reason);
        },
      },
    );
    const backOff = new BackOff(() => this.tell({ kind: 'released', service: service.name }));
    const one: Tracked = { service, checks, backOff, run: null, isOurs: false, worked: 0, starting: 0 };
    return one;
  }

  private async comesUp(one: Tracked, signal: AbortSignal): Promise<ServiceView> {
    for (;;) {
      const { state, detail } = one.checks.health;
      if (state === 'ready') return this.viewOf(one);
      if (this.stopped) throw new NotReady('the agent ends');
      if (state !== 'starting') throw await this.notReady(one, detail ?? `it is ${state}`);
      await this.waiters.next(READY_LOOK_MS, signal);
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

  /**
   * A driver that hangs, or is busy with what it was asked before, holds nobody up whose time is over (law 8). Whoever gave up
   * for another reason waits for its end (law 3). What it does later all the same is no news.
   * @throws what the work throws, and the signal's reason when the time is over
   */
  private async inTime<T>(one: Tracked, work: Promise<T>, signal: AbortSignal): Promise<T> {
    one.worked += 1;
    const left = new AbortController();
    const over = new Promise<never>((_, reject) => {
      const look = () => isOver(signal) && reject(signal.reason as Error);
      signal.addEventListener('abort', look, { once: true, signal: left.signal });
      look();
    });
    void work
      .catch(() => undefined) // Whoever waits hears it.
      .finally(() => {
        one.worked -= 1;
      });
    return Promise.race([work, over]).finally(() => left.abort());
  }

  private find(name: string): Tracked {
    const one = this.tracked.get(name);
    if (one === undefined)
      throw new ServiceError(
        'missing',
        `There is no service "${name}".`,
        '`vramflow service list` shows those that there are.',
      );
    return one;
  }

  private sightOf({ service }: Tracked): ServiceSight {
    const sight = service.driver.sights().find((one) => one.service === service.name);
    return (
      sight ?? { service: service.name, state: 'unknown', run: null, pids: [], runningForMs: null, lastExit: null }
    );
  }

  private runOf({ service, run, isOurs }: Tracked) {
    return { isOurs, wasReady: this.runs.of(service.name, run)?.wasReady ?? false };
  }

  private viewOf(one: Tracked): ServiceView {
    const sight = this.sightOf(one);
    const gpus = sight.gpus ?? this.runs.of(one.service.name, sight.run)?.gpus ?? null;
    return { name: one.service.name, sight, health: one.checks.health, gpus, heldBack: one.backOff.heldBack() };
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
    if (one === undefined) return;
    this.follow(one, change.kind === 'ended' ? change.exit : null);
    if (change.kind === 'health') one.checks.driverSaid();
  }

  /** Brings what is known of a service up to what its driver sees. */
  private follow(one: Tracked, exit: ServiceExit | null = null): void {
    const sight = this.sightOf(one);
    if (sight.state === 'unknown' || this.stopped) return;
    const isAnother = sight.run !== one.run;
    if (one.run !== null && (sight.state === 'absent' || isAnother)) this.ended(one, exit ?? sight.lastExit);
    if (sight.state === 'running' && isAnother) this.began(one, sight);
    this.waiters.wake();
  }

  private began(one: Tracked, sight: ServiceSight): void {
    const isKnown = (this.runs.of(one.service.name, sight.run)?.gpus ?? null) !== null;
    one.run = sight.run;
    one.isOurs = isKnown || one.worked > 0 || sight.gpus !== undefined;
    one.checks.begin(sight);
    if (one.worked === 0 && !isKnown) this.tell({ kind: 'appeared', service: one.service.name });
  }

  private ended(one: Tracked, exit: ServiceExit | null): void {
    const reason = exit?.reason ?? 'it ended';
    const wanted = one.checks.health.state === 'stopping' || one.worked > 0;
    const healthyForMs = one.checks.health.state === 'ready' ? this.now() - one.checks.health.sinceMs : 0;
    one.run = null;
    one.checks.ended(reason);
    if (wanted) return;
    one.backOff.hold(reason, healthyForMs);
    this.tell({ kind: 'died', service: one.service.name, reason });
  }

  /** Its state is another after a check that no operation waits for. */
  private changed(one: Tracked, before: ServiceHealth, reason: string): void {
    const service = one.service.name;
    if (one.checks.health.state === 'unhealthy') {
      one.backOff.hold(reason, before.state === 'ready' ? this.now() - before.sinceMs : 0);
      this.tell({ kind: 'unhealthy', service, reason });
    }
    if (one.checks.health.state === 'ready' && before.state === 'unhealthy') {
      one.backOff.end();
      this.tell({ kind: 'healthy', service });
    }
  }

  private tell(news: ServiceNews): void {
    for (const listener of this.listeners) listener(news);
  }
}
