import { type Cancel, type Clock, sleep } from './clock.js';
import { type ContainerConfig, gpuFor, portsOf } from './containerConfig.js';
import { ContainerLog } from './containerLog.js';
import { ContainerPage } from './containerPage.js';
import { DockerError, OutOfMemory } from './errors.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost, GpuProcess } from './gpuHost.js';
import { jittered, type Random } from './random.js';
import type { ServiceContainer } from './servicesFile.js';

/** All of a container that a restart of the simulator needs; what it wrote is not kept. */
export interface ContainerState {
  readonly id: string;
  readonly name: string;
  readonly config: ContainerConfig;
  readonly created: string;
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly exitCode: number;
  readonly error: string;
  /** Null when it does not run. */
  readonly pid: number | null;
  readonly isUp: boolean;
}

export interface ContainerDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
}

/** What others are told of: `up` is no event of Docker's. */
export type ContainerNotice = 'start' | 'up' | 'kill' | 'die' | `health_status: ${Health}`;

type Health = 'starting' | 'healthy' | 'unhealthy';

/** What Docker takes to bring up a container's first process, in simulated ms. */
const START_MS = 300;
/** A boot takes its memory in so many steps. */
const BOOT_STEPS = 8;
const UNHEALTHY_STATUS = 503;
const SIGKILL = 9;
const CRASH_CODE = 139;

/** A container that may run: it boots, taking memory of its card, serves its page, and ends when told, or otherwise. */
export class SimulatedContainer {
  readonly log: ContainerLog;
  readonly #dependencies: ContainerDependencies;
  readonly #program: ServiceContainer;
  readonly #notice: (notice: ContainerNotice, attributes: Record<string, string>) => void;
  readonly #endWatchers = new Set<() => void>();
  readonly #timers = new Set<Cancel>();
  #state: ContainerState;
  #process: GpuProcess | null = null;
  #page: ContainerPage | null = null;
  #isLeaving = false;
  /** The word of its HEALTHCHECK in this run. */
  #health: Health = 'starting';
  #starting: Promise<void> | null = null;

  constructor(
    state: ContainerState,
    program: ServiceContainer,
    dependencies: ContainerDependencies,
    notice: (notice: ContainerNotice, attributes: Record<string, string>) => void,
  ) {
    this.#state = state;
    this.#program = program;
    this.#dependencies = dependencies;
    this.#notice = notice;
    this.log = new ContainerLog(dependencies.clock);
  }

  get state(): ContainerState {
    return this.#state;
  }

  /** Null: it has no HEALTHCHECK. */
  get health(): Health | null {
    return this.#program.healthcheckMs === null ? null : this.#health;
  }

  get isRunning(): boolean {
    return this.#process !== null;
  }

  /** @throws {DockerError} in the words of Docker, for a fault, a GPU that is not there, or a port that is taken. */
  start(): Promise<void> {
    this.#starting ??= this.#start().finally(() => {
      this.#starting = null;
    });
    return this.#starting;
  }

  async #start(): Promise<void> {
    const { gpuHost, faults, random } = this.#dependencies;
    try {
      const failing = faults.take('container-fail', this.#itself);
      if (failing !== null) throw new DockerError(500, 'failed to create shim task: cannot start (simulated): unknown');
      const gpu = gpuFor(this.state.config, gpuHost.cards);
      await sleep(this.#dependencies.clock, jittered(START_MS, random));
      await this.#openPage();
      this.#process = gpuHost.startProcess('container', this.state.name);
      this.#set({ startedAt: this.#now(), pid: this.#process.pid, exitCode: 0, error: '', isUp: false });
      this.#notice('start', {});
      this.log.write(`${this.#program.name}: starting on ${gpu ?? 'the CPU'}`);
      this.log.write(`${this.#program.name}: loading`, 'stderr');
      this.#boot(this.#process, gpu, 1, jittered(this.#program.bootMs, random) / BOOT_STEPS);
      this.#checkHealth('starting');
      this.crashIfAsked();
    } catch (error) {
      this.#set({ exitCode: 128, error: (error as Error).message });
      throw error;
    }
  }

  /** Resolves when no start is under way, however that ends. */
  async settled(): Promise<void> {
    await this.#starting?.catch(() => {}); // Whoever asked for the start hears of it.
  }

  /** Its stop signal: heard, unless a fault makes it deaf. */
  askToStop(): void {
    this.#notice('kill', { signal: '15' });
    if (this.#isLeaving || this.#dependencies.faults.take('container-deaf', this.#itself) !== null) return;
    this.#isLeaving = true;
    this.log.write(`${this.#program.name}: stopping`);
    this.#after(jittered(this.#program.stopMs, this.#dependencies.random), () => this.#leave(0));
  }

  kill(): void {
    this.#notice('kill', { signal: String(SIGKILL) });
    this.#leave(128 + SIGKILL);
  }

  /** Dies of the fault container-crash, if that is set for it. */
  crashIfAsked(): void {
    if (!this.isRunning) return;
    const crash = this.#dependencies.faults.take('container-crash', this.#itself);
    if (crash !== null) this.#after(Number(crash.ms ?? 0), () => this.#leave(CRASH_CODE));
  }

  /** Resolves when it does not run. */
  ended(): Promise<void> {
    if (!this.isRunning) return Promise.resolve();
    return new Promise((resolve) => this.#endWatchers.add(resolve));
  }

  /** Goes on after a restart of the simulator, with the process that holds its memory. */
  async resume(process: GpuProcess | undefined): Promise<void> {
    if (process === undefined) {
      this.#set({ pid: null, finishedAt: this.#now(), exitCode: CRASH_CODE });
      return;
    }
    this.#process = process;
    await this.#openPage();
    const stepMs = jittered(this.#program.bootMs, this.#dependencies.random) / BOOT_STEPS;
    this.#checkHealth('starting');
    // Who looks for the line finds it again.
    if (this.state.isUp) this.#sayReady();
    else this.#boot(process, gpuFor(this.state.config, this.#dependencies.gpuHost.cards), 1, stepMs);
  }

  #sayReady(): void {
    this.log.write(`${this.#program.name}: ready`);
  }

  /** Ends all waiting, when the simulator itself ends. */
  async close(): Promise<void> {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    await this.#page?.close();
  }

  get #itself(): { container: string } {
    return { container: this.state.name };
  }

  #boot(process: GpuProcess, gpu: string | null, step: number, stepMs: number): void {
    this.#after(stepMs, () => {
      const { gpuHost } = this.#dependencies;
      try {
        const mb = (this.#program.vramMb * step) / BOOT_STEPS;
        if (gpu !== null && gpuHost.heldMb(process.holder, gpu) < mb) gpuHost.resize(process, gpu, mb);
      } catch (error) {
        if (!(error instanceof OutOfMemory)) throw error;
        this.log.write(`${this.#program.name}: error: CUDA ${error.message} (simulated)`, 'stderr');
        this.#leave(1);
        return;
      }
      if (step < BOOT_STEPS) this.#boot(process, gpu, step + 1, stepMs);
      else {
        this.#set({ isUp: true });
        this.#notice('up', {});
        this.#sayReady();
      }
    });
  }

  /** As Docker makes a HEALTHCHECK with one retry: `starting` until the first that passes, then an event at each change. */
  #checkHealth(health: Health): void {
    const { healthcheckMs } = this.#program;
    this.#health = health;
    if (healthcheckMs === null) return;
    this.#after(healthcheckMs, () => {
      const failing = this.#dependencies.faults.take('container-unhealthy', this.#itself) !== null;
      const found: Health = failing ? 'unhealthy' : this.state.isUp ? 'healthy' : this.#health;
      const changed = found !== this.#health;
      this.#checkHealth(found);
      if (changed) this.#notice(`health_status: ${found}`, {});
    });
  }

  /** Ends the run, unless a fault keeps the process alive until it is cleared. */
  #leave(code: number): void {
    const { faults, gpuHost } = this.#dependencies;
    const process = this.#process;
    if (process === null) return;
    if (faults.active('container-stuck', this.#itself) !== null) {
      this.#timers.add(faults.onceCleared('container-stuck', () => this.#process === process && this.#leave(code)));
      return;
    }
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    this.#process = null;
    this.#isLeaving = false;
    void gpuHost.end(process);
    void this.#page?.close();
    this.#set({ pid: null, isUp: false, finishedAt: this.#now(), exitCode: code });
    this.#notice('die', { exitCode: String(code) });
    for (const tell of this.#endWatchers) tell();
    this.#endWatchers.clear();
  }

  async #openPage(): Promise<void> {
    const { health, name } = this.#program;
    const page = new ContainerPage({
      ports: portsOf(this.state.config, health?.port ?? null),
      answer: (path) => {
        if (!this.state.isUp) return null;
        const unhealthy = this.#dependencies.faults.take('container-unhealthy', this.#itself);
        if (unhealthy !== null) return Number(unhealthy.status ?? UNHEALTHY_STATUS);
        return path === health?.path ? 200 : 404;
      },
    });
    try {
      await page.open();
    } catch (error) {
      const { code, port } = error as NodeJS.ErrnoException & { port?: number };
      if (code !== 'EADDRINUSE') throw error;
      const listening = `listen tcp4 127.0.0.1:${port}: bind: address already in use`;
      const endpoint = `driver failed programming external connectivity on endpoint ${name}`;
      throw new DockerError(500, `${endpoint}: Error starting userland proxy: ${listening}`);
    }
    this.#page = page;
  }

  #after(ms: number, action: () => void): void {
    const cancel = this.#dependencies.clock.after(ms, () => {
      this.#timers.delete(cancel);
      action();
    });
    this.#timers.add(cancel);
  }

  #set(change: Partial<ContainerState>): void {
    this.#state = { ...this.#state, ...change };
  }

  #now(): string {
    const { clock } = this.#dependencies;
    return clock.dateOf(clock.now()).toISOString();
  }
}
