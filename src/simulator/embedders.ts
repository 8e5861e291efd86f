import type { Clock } from './clock.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost, GpuProcess } from './gpuHost.js';
import { jittered, type Random } from './random.js';
import type { Recorder } from './recorder.js';

/** What an embedder process says of itself when it connects. */
export interface EmbedderHello {
  readonly pid: number;
  readonly device: 'cpu' | 'cuda';
  /** A card's UUID; null leaves the choice to CUDA, which takes the first. */
  readonly gpu: string | null;
  readonly name: string;
}

/** Simulated ms until an embedder is ready: its libraries, then its model. */
const START_MS = { cpu: 150, cuda: 350 } as const;

/** A live process of an earlier run of the simulator has this many simulated ms to connect again. */
const RECONNECT_MS = 5000;

interface EmbedderDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly recorder: Recorder;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
}

/** The embedder processes that are connected. Each is a real process; on cuda it holds simulated memory while it lives. */
export class Embedders {
  /** What one takes on a card, in MB. */
  mb = 500;
  readonly #dependencies: EmbedderDependencies;
  readonly #connected = new Set<number>();

  constructor(dependencies: EmbedderDependencies) {
    this.#dependencies = dependencies;
  }

  /**
   * A process connected. Returns its simulated start-up time in ms and what to do when its connection ends.
   * @throws {OutOfMemory} when the card has no room; {BadRequest} for an unknown card.
   */
  connect(hello: EmbedderHello): { startMs: number; failure: string | null; disconnect: () => void } {
    const { faults, gpuHost, random } = this.#dependencies;
    const context = { device: hello.device };
    const atStart = faults.active('embedder-fail', context);
    const fails = atStart !== null && atStart.when !== 'request' && faults.take('embedder-fail', context) !== null;
    const startMs = jittered(START_MS[hello.device], random) + Number(faults.take('embedder-slow', context)?.ms ?? 0);
    if (hello.device === 'cpu' || fails) {
      return { startMs, failure: fails ? 'CUDA error: initialization error (simulated)' : null, disconnect: () => {} };
    }
    const gpu = (hello.gpu === null ? gpuHost.cards[0] : gpuHost.card(hello.gpu))?.spec.uuid ?? '';
    const process = this.#known(hello.pid) ?? gpuHost.startProcess('embedder', hello.name, hello.pid);
    try {
      gpuHost.resize(process, gpu, this.mb);
    } catch (error) {
      void gpuHost.end(process);
      throw error;
    }
    this.#connected.add(hello.pid);
    return {
      startMs,
      failure: null,
      disconnect: () => {
        this.#connected.delete(hello.pid);
        void gpuHost.end(process);
      },
    };
  }

  /** The faults of one embedding request, which goes on record. `slowMs` is simulated. */
  serve(pid: number, device: 'cpu' | 'cuda', input: 'text' | 'image', count: number): EmbedFaults {
    const { faults, recorder } = this.#dependencies;
    recorder.add({ kind: 'embed', pid, device, input, count });
    const fail = faults.active('embedder-fail', { device });
    return {
      slowMs: Number(faults.take('embedder-slow', { device })?.ms ?? 0),
      fails: fail?.when === 'request' && faults.take('embedder-fail', { device }) !== null,
      wrong: (faults.take('embedder-wrong', { device })?.kind as EmbedFaults['wrong'] | undefined) ?? null,
    };
  }

  /** Looks after the embedders of an earlier run: the dead are freed at once, the living must connect again. */
  superviseRestored(): void {
    const { clock, gpuHost } = this.#dependencies;
    for (const process of gpuHost.processes.filter(({ kind, ended }) => kind === 'embedder' && !ended)) {
      if (!isAlive(process.pid)) void gpuHost.end(process);
      else clock.after(RECONNECT_MS, () => this.#connected.has(process.pid) || void gpuHost.end(process));
    }
  }

  #known(pid: number): GpuProcess | undefined {
    return this.#dependencies.gpuHost.processes.find(
      ({ kind, ended, ...p }) => kind === 'embedder' && !ended && p.pid === pid,
    );
  }
}

/** What goes wrong in one request. */
export interface EmbedFaults {
  readonly slowMs: number;
  readonly fails: boolean;
  readonly wrong: 'not-finite' | 'wrong-dimension' | 'not-unit' | 'different' | null;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
