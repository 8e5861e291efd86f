import { ManualClock } from '../../src/simulator/clock.js';
import { FaultBoard } from '../../src/simulator/faults.js';
import { GpuHost } from '../../src/simulator/gpuHost.js';
import type { RunnerOptions } from '../../src/simulator/ollamaRunner.js';
import { type Lease, OllamaScheduler } from '../../src/simulator/ollamaScheduler.js';
import { PRESETS } from '../../src/simulator/presets.js';
import { seededRandom } from '../../src/simulator/random.js';
import { Recorder } from '../../src/simulator/recorder.js';

export const DEFAULT_OPTIONS: RunnerOptions = { numCtx: 2048, numGpu: -1, numBatch: 512, numThread: 0 };

/** A simulated host without its servers, on a clock that the test drives. */
export class TestHost {
  readonly clock = new ManualClock();
  readonly recorder = new Recorder(this.clock);
  readonly faults = new FaultBoard(this.clock, this.recorder);
  readonly gpuHost: GpuHost;
  readonly scheduler: OllamaScheduler;
  readonly #preset;

  constructor(preset: string, seed = 1) {
    const found = PRESETS[preset];
    if (found === undefined) throw new Error(`no preset ${preset}`);
    this.#preset = found;
    const cards = found.cards.map(({ uuid, totalMb }) => ({ gpu: uuid, totalMb }));
    this.recorder.add({ kind: 'start', preset, seed, speed: 1, cards });
    const parts = { clock: this.clock, recorder: this.recorder, faults: this.faults, random: seededRandom(seed) };
    this.gpuHost = new GpuHost(found.cards, parts);
    this.scheduler = new OllamaScheduler({ ...parts, gpuHost: this.gpuHost }, () => {});
  }

  /** A request for a model; `abort` is the client that leaves. */
  request(name: string, options: { numCtx?: number; keepAliveMs?: number | null } = {}): Request {
    const model = this.#preset.models.find((known) => known.name === name);
    if (model === undefined) throw new Error(`no model ${name}`);
    const left = new AbortController();
    const { numCtx = 2048, keepAliveMs = null } = options;
    const acquired = this.scheduler.acquire({
      model,
      options: { ...DEFAULT_OPTIONS, numCtx },
      keepAliveMs,
      signal: left.signal,
    });
    const request: Request = { state: 'waiting', error: null, lease: null, acquired, abort: () => left.abort() };
    acquired.then(
      (lease) => Object.assign(request, { state: 'served', lease }),
      (error: Error) => Object.assign(request, { state: 'failed', error }),
    );
    return request;
  }

  /** Loads a model and ends the request. */
  async load(name: string, options: { numCtx?: number; keepAliveMs?: number | null } = {}): Promise<void> {
    const request = this.request(name, options);
    await this.clock.advance(60_000);
    if (request.lease === null) throw request.error ?? new Error(`${name} is not loaded after a minute`);
    request.lease.release();
    await this.clock.advance(0);
  }

  /** What the first card uses, in MB. */
  get usedMb(): number {
    const card = this.gpuHost.card(0);
    return this.gpuHost.usedMb(card);
  }
}

export interface Request {
  state: 'waiting' | 'served' | 'failed';
  error: Error | null;
  lease: Lease | null;
  acquired: Promise<Lease>;
  abort(): void;
}
