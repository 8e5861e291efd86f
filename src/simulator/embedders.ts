import type { Clock } from './clock.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost } from './gpuHost.js';
import { jittered, type Random } from './random.js';
import { RealProcesses } from './realProcesses.js';
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
  readonly #processes: RealProcesses;

  constructor(dependencies: EmbedderDependencies) {
    this.#dependencies = dependencies;
    this.#processes = new RealProcesses('embedder', dependencies.gpuHost);
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
    const process = this.#processes.connect(hello.pid, hello.name);
    try {
      gpuHost.resize(process, gpu, this.mb);
    } catch (error) {
      this.#processes.disconnect(process);
      throw error;
    }
    return { startMs, failure: null, disconnect: () => this.#processes.disconnect(process) };
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

  superviseRestored(): void {
    this.#processes.superviseRestored();
  }
}

/** What goes wrong in one request. */
export interface EmbedFaults {
  readonly slowMs: number;
  readonly fails: boolean;
  readonly wrong: 'not-finite' | 'wrong-dimension' | 'not-unit' | 'different' | null;
}
