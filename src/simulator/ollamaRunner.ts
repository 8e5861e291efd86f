import { type Clock, sleep } from './clock.js';
import { OllamaError, OutOfMemory } from './errors.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost, GpuProcess } from './gpuHost.js';
import { ESTIMATE_OVER_ACTUAL, PEAK_OVER_STEADY, type Placement } from './placement.js';
import type { ModelSpec } from './presets.js';
import { jittered, type Random } from './random.js';
import type { Recorder } from './recorder.js';

/** The options of a request that make Ollama reload a model when they differ. */
export interface RunnerOptions {
  readonly numCtx: number;
  readonly numGpu: number;
  readonly numBatch: number;
  readonly numThread: number;
}

export interface RunnerDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly recorder: Recorder;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
}

/** How much a load reads per simulated millisecond, in MB: an 8b model takes about four seconds. */
const LOAD_MB_PER_MS = 2.56;

/** A load takes memory in steps of this many simulated ms. */
const STEP_MS = 100;

/** From this part of a load on, it holds its peak. */
const PEAK_FROM = 0.85;

/** No part of a load, however late its step comes on a busy machine. */
const NEVER = Number.POSITIVE_INFINITY;

/** Ollama 0.6.5 gives up on a load that makes no progress for five minutes (OLLAMA_LOAD_TIMEOUT). */
const STALL_MS = 300_000;

/** One `ollama runner` process: a loaded model, or one being loaded. */
export class OllamaRunner {
  readonly model: ModelSpec;
  readonly options: RunnerOptions;
  readonly placement: Placement;
  readonly process: GpuProcess;
  /** How long it stays after its last request, in simulated ms. */
  sessionMs: number;
  /** In simulated ms; null until its first request has ended. */
  expiresAtMs: number | null = null;
  cancelExpiry: () => void = () => {};
  refs = 0;
  loading = true;
  /** Its process is being ended; it is listed until that is done. */
  leaving = false;
  readonly #dead = new AbortController();
  readonly #dependencies: RunnerDependencies;

  constructor(
    model: ModelSpec,
    options: RunnerOptions,
    placement: Placement,
    sessionMs: number,
    dependencies: RunnerDependencies,
    process?: GpuProcess,
  ) {
    this.model = model;
    this.options = options;
    this.placement = placement;
    this.sessionMs = sessionMs;
    this.#dependencies = dependencies;
    this.process = process ?? dependencies.gpuHost.startProcess('runner', '/usr/bin/ollama');
    this.loading = process === undefined;
  }

  /** Aborts when the process dies, whoever ends it. */
  get dead(): AbortSignal {
    return this.#dead.signal;
  }

  /**
   * Takes memory step by step, a little more than it needs at the end, and is ready then.
   * @throws {OllamaError} with Ollama's text when the load fails; the signal's reason when it is aborted.
   */
  async load(signal: AbortSignal): Promise<void> {
    const { recorder, clock } = this.#dependencies;
    const base = { model: this.model.name, holder: this.process.holder };
    const { sizeMb, vramMb } = this.placement;
    recorder.add({ kind: 'load-start', ...base, sizeMb, vramMb: { ...vramMb }, numCtx: this.options.numCtx });
    try {
      const either = AbortSignal.any([signal, this.dead]);
      const durationMs = this.#loadMs();
      const { faults } = this.#dependencies;
      const failsAt = faults.take('load-fail', { model: this.model.name }) === null ? NEVER : 0.6;
      const hangsAt = faults.take('load-hang', { model: this.model.name }) === null ? NEVER : 0.5;
      const startedMs = clock.now();
      let hung = false;
      for (let part = 0; part < 1; ) {
        await sleep(clock, Math.min(STEP_MS, durationMs / 4), either);
        part = hung ? part + STEP_MS / durationMs : (clock.now() - startedMs) / durationMs;
        if (part >= failsAt) throw new OllamaError(500, 'llama runner process has terminated: exit status 2');
        this.#hold(Math.min(1, part / PEAK_FROM) * PEAK_OVER_STEADY);
        if (part >= hangsAt && !hung) {
          hung = true;
          await this.#hang(either);
        }
      }
      this.#hold(1);
      this.loading = false;
      recorder.add({ kind: 'load-end', ...base, outcome: 'loaded', error: null });
    } catch (error) {
      const failure = this.#loadFailure(error);
      const outcome = signal.aborted ? 'aborted' : 'failed';
      recorder.add({ kind: 'load-end', ...base, outcome, error: failure.message });
      throw failure;
    }
  }

  /** Ends the process; resolves when its memory is back. */
  exit(): Promise<void> {
    this.cancelExpiry();
    this.#dead.abort(new OllamaError(500, 'an error was encountered while running the model: unexpected EOF'));
    return this.#dependencies.gpuHost.end(this.process);
  }

  /** The process dies by itself. Ollama notices only at the next request and goes on listing the model till then. */
  crash(): void {
    this.#dependencies.recorder.add({ kind: 'runner-crashed', model: this.model.name, holder: this.process.holder });
    void this.exit();
  }

  #loadMs(): number {
    const { faults, random } = this.#dependencies;
    const factor = Number(faults.take('load-slow', { model: this.model.name })?.factor ?? 1);
    return Math.max(250, jittered(this.placement.sizeMb / LOAD_MB_PER_MS, random)) * factor;
  }

  /** Holds `factor` times what it has when ready, on each of its cards. */
  #hold(factor: number): void {
    for (const [gpu, mb] of Object.entries(this.placement.vramMb)) {
      this.#dependencies.gpuHost.resize(this.process, gpu, (mb / ESTIMATE_OVER_ACTUAL) * factor);
    }
  }

  async #hang(signal: AbortSignal): Promise<void> {
    const { clock, faults } = this.#dependencies;
    const released = new AbortController();
    const unwatch = faults.onceCleared('load-hang', () => released.abort(new Error('cleared')));
    try {
      await sleep(clock, STALL_MS, AbortSignal.any([signal, released.signal]));
    } catch (error) {
      if (released.signal.aborted && !signal.aborted) return;
      throw error;
    } finally {
      unwatch();
    }
    throw new OllamaError(500, 'timed out waiting for llama runner to start - progress 0.50 - ');
  }

  #loadFailure(error: unknown): Error {
    if (error instanceof OutOfMemory) {
      return new OllamaError(500, 'llama runner process has terminated: cudaMalloc failed: out of memory');
    }
    if (this.dead.aborted && error === this.dead.reason) {
      return new OllamaError(500, 'llama runner process has terminated: signal: killed');
    }
    return error instanceof Error ? error : new Error(String(error));
  }
}
