import type { Cancel, Clock } from './clock.js';
import { OutOfMemory, unknownName } from './errors.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost, GpuProcess } from './gpuHost.js';
import { jittered, type Random } from './random.js';
import { RealProcesses } from './realProcesses.js';
import type { ServiceProgram } from './servicesFile.js';

/** What the process of a service says of itself when it connects. */
export interface ServiceHello {
  readonly pid: number;
  /** The program of the services file that it plays. */
  readonly name: string;
  /** Its CUDA_VISIBLE_DEVICES: null when unset, which shows all cards. */
  readonly visibleDevices: string | null;
  /** It connects again, after a restart of the simulator. */
  readonly isUp: boolean;
}

/** What the process is told over its connection. Times in simulated ms. */
export type ServiceOrder =
  | {
      readonly kind: 'play';
      readonly stopMs: number;
      readonly health: ServiceProgram['health'];
      readonly gpu: string | null;
    }
  | { readonly kind: 'up' }
  /** Print the reason and exit with 1. */
  | { readonly kind: 'fail'; readonly reason: string }
  /** End as if killed. */
  | { readonly kind: 'crash' };

/** What a page of the service answers; after a `failure` its process prints that and exits with 1. */
export interface PageAnswer {
  readonly status: number;
  readonly failure: string | null;
}

interface ServiceDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
}

interface Playing {
  readonly program: ServiceProgram;
  readonly process: GpuProcess;
  /** The card's UUID; null when no card is visible. */
  readonly gpu: string | null;
  readonly tell: (order: ServiceOrder) => void;
  isUp: boolean;
  next: Cancel;
}

/** A boot takes its memory in so many steps. */
const BOOT_STEPS = 8;
/** What a service answers that is not well and was not told how. */
const UNHEALTHY_STATUS = 503;

/** The native services that are connected. Each is a real process; it holds simulated memory while it lives. */
export class Services {
  readonly programs: readonly ServiceProgram[];
  readonly #dependencies: ServiceDependencies;
  readonly #processes: RealProcesses;
  readonly #playing = new Map<number, Playing>();

  constructor(dependencies: ServiceDependencies, programs: readonly ServiceProgram[]) {
    this.#dependencies = dependencies;
    this.programs = programs;
    this.#processes = new RealProcesses('service', dependencies.gpuHost);
    dependencies.faults.onChange(() => {
      for (const service of this.#playing.values()) if (service.isUp) this.#crashIfAsked(service);
    });
  }

  /**
   * A process connected. Returns what to do when its connection ends.
   * @throws {BadRequest} for a program that is not known.
   */
  connect(hello: ServiceHello, tell: (order: ServiceOrder) => void): () => void {
    const { faults, random } = this.#dependencies;
    const names = this.programs.map(({ name }) => name);
    const program = this.programs.find(({ name }) => name === hello.name) ?? unknownName('program', hello.name, names);
    const process = this.#processes.connect(hello.pid, hello.name);
    const gpu = this.#visibleGpu(hello.visibleDevices);
    const service: Playing = { program, process, gpu, tell, isUp: hello.isUp, next: () => {} };
    this.#playing.set(hello.pid, service);
    tell({ kind: 'play', stopMs: jittered(program.stopMs, random), health: program.health, gpu });
    if (faults.take('service-fail', { service: program.name }) !== null) {
      tell({ kind: 'fail', reason: 'it cannot start (simulated)' });
    } else if (hello.isUp) this.#hold(service, program.vramMb);
    else this.#boot(service, 1, jittered(program.bootMs, random) / BOOT_STEPS);
    return () => {
      service.next();
      this.#playing.delete(hello.pid);
      this.#processes.disconnect(process);
    };
  }

  /** A request to a page of a service that is up. The first one to /work makes it take its peak. */
  page(pid: number, path: string): PageAnswer {
    const service = this.#playing.get(pid);
    if (service === undefined) return { status: 200, failure: null };
    const { program } = service;
    const unhealthy = this.#dependencies.faults.take('service-unhealthy', { service: program.name });
    if (unhealthy !== null) return { status: Number(unhealthy.status ?? UNHEALTHY_STATUS), failure: null };
    if (path !== '/work') return { status: path === program.health?.path ? 200 : 404, failure: null };
    const failure = this.#hold(service, program.peakMb ?? program.vramMb);
    return { status: failure === null ? 200 : 500, failure };
  }

  /** Whether a SIGTERM that the process got is not heard. */
  ignoresTerm(name: string): boolean {
    return this.#dependencies.faults.take('service-deaf', { service: name }) !== null;
  }

  superviseRestored(): void {
    this.#processes.superviseRestored();
  }

  #boot(service: Playing, step: number, stepMs: number): void {
    service.next = this.#dependencies.clock.after(stepMs, () => {
      const reason = this.#hold(service, Math.round((service.program.vramMb * step) / BOOT_STEPS));
      if (reason !== null) service.tell({ kind: 'fail', reason });
      else if (step < BOOT_STEPS) this.#boot(service, step + 1, stepMs);
      else {
        service.isUp = true;
        service.tell({ kind: 'up' });
        this.#crashIfAsked(service);
      }
    });
  }

  /** Takes what is missing to `mb`; says why it cannot. */
  #hold({ gpu, process }: Playing, mb: number): string | null {
    const { gpuHost } = this.#dependencies;
    if (gpu === null || gpuHost.heldMb(process.holder, gpu) >= mb) return null;
    try {
      gpuHost.resize(process, gpu, mb);
      return null;
    } catch (error) {
      if (error instanceof OutOfMemory) return `CUDA ${error.message} (simulated)`;
      throw error;
    }
  }

  /** As CUDA does it: an id that it does not know hides itself and all after it. */
  #visibleGpu(visibleDevices: string | null): string | null {
    const { cards } = this.#dependencies.gpuHost;
    const first = visibleDevices === null ? '0' : visibleDevices.split(',')[0];
    return cards.find(({ index, spec }) => spec.uuid === first || String(index) === first)?.spec.uuid ?? null;
  }

  #crashIfAsked({ program, tell }: Playing): void {
    if (this.#dependencies.faults.take('service-crash', { service: program.name }) !== null) tell({ kind: 'crash' });
  }
}
