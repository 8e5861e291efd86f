import { sleep } from './clock.js';
import { OllamaError } from './errors.js';
import { OllamaRunner, type RunnerDependencies, type RunnerOptions } from './ollamaRunner.js';
import { estimateMb, type FreeCard, type Placement, placePartly, placeWhole, shareOfLayers } from './placement.js';
import type { ModelSpec } from './presets.js';

/** Ollama's defaults (0.6.5): five minutes, three models a GPU, 512 waiting requests. */
export const DEFAULT_KEEP_ALIVE_MS = 300_000;
const MODELS_PER_GPU = 3;
const MAX_QUEUE = 512;

/** It looks again after this many ms when another load is under way on the cards it needs. */
const RESCHEDULE_MS = 250;
/** It looks this often whether the client of a load has left. */
const CANCEL_NOTICED_MS = 250;
/** Those who wait for a load under way look this often. */
const LOADING_POLL_MS = 20;
/** It looks for the memory of an unloaded model this often, and gives up waiting after so long. */
const RECOVERY_POLL_MS = 250;
const RECOVERY_LIMIT_MS = 5000;
/** Ending a runner's process takes this long; until then `/api/ps` lists the model, though the unload was answered. */
const EXIT_MS = 40;

export interface AcquireRequest {
  readonly model: ModelSpec;
  readonly options: RunnerOptions;
  /** Simulated ms to stay after the request; null keeps what the model has, or the default for a new one. */
  readonly keepAliveMs: number | null;
  /** Aborts when the client leaves. */
  readonly signal: AbortSignal;
}

/** A runner for one request. `release` must be called when the request has ended. */
export interface Lease {
  readonly runner: OllamaRunner;
  release(): void;
}

interface Pending extends AcquireRequest {
  resolve(lease: Lease): void;
  reject(error: Error): void;
}

/**
 * Ollama 0.6.5's scheduler, with its habits: one request is placed at a time and blocks those behind it;
 * a model is evicted when the next does not fit, and offloaded partly when nothing is left to evict;
 * an unload waits for requests in flight and then for the memory, at most five seconds.
 */
export class OllamaScheduler {
  readonly loaded = new Map<string, OllamaRunner>();
  /** Most models at a time; null is Ollama's automatic number, three a GPU. */
  maxLoadedModels: number | null = null;
  readonly #dependencies: RunnerDependencies;
  readonly #stopped = new AbortController();
  readonly #queue: Pending[] = [];
  #placing = false;
  /** Ends of requests and unloads happen one after the other, as in Ollama's own loop. */
  #completions: Promise<void> = Promise.resolve();
  #unloadWatchers: (() => void)[] = [];
  readonly #changed: () => void;

  /** `changed` is called when a model has come, gone or got a new time to stay. */
  constructor(dependencies: RunnerDependencies, changed: () => void) {
    this.#dependencies = dependencies;
    this.#changed = changed;
  }

  /**
   * A runner with the model loaded as asked.
   * @throws {OllamaError} with the status and text that Ollama answers.
   */
  acquire(request: AcquireRequest): Promise<Lease> {
    return new Promise((resolve, reject) => {
      if (this.#queue.length >= MAX_QUEUE) {
        reject(new OllamaError(503, 'server busy, please try again.  maximum pending requests exceeded'));
        return;
      }
      const ends = [request.signal, this.#stopped.signal];
      const leave = (): void => settle(() => reject(new OllamaError(499, 'request canceled')));
      const settle = (outcome: () => void): void => {
        for (const signal of ends) signal.removeEventListener('abort', leave);
        outcome();
      };
      for (const signal of ends) signal.addEventListener('abort', leave, { once: true });
      this.#queue.push({
        ...request,
        resolve: (lease) => settle(() => resolve(lease)),
        reject: (error) => settle(() => reject(error)),
      });
      void this.#placeAll();
    });
  }

  /** Unloads a model once its requests have ended; waits for a load under way first, as Ollama does. */
  async expire(model: string): Promise<void> {
    const runner = this.loaded.get(model);
    if (runner === undefined) return;
    while (runner.loading && this.loaded.get(model) === runner) await sleep(this.#dependencies.clock, 50);
    this.#expireRunner(runner, 'asked');
  }

  /** Takes up a runner of an earlier run of the simulator. */
  adopt(runner: OllamaRunner): void {
    this.loaded.set(runner.model.name, runner);
    const leftMs = (runner.expiresAtMs ?? 0) - this.#dependencies.clock.now();
    this.#stayFor(runner, Math.max(0, leftMs));
  }

  /** The server ends. Its runners end with it, or stay as orphans that hold their memory. */
  stop(orphans: boolean): void {
    this.#stopped.abort();
    for (const runner of this.loaded.values()) {
      runner.cancelExpiry();
      if (!orphans || runner.loading) void runner.exit();
    }
    this.loaded.clear();
    this.#queue.length = 0;
  }

  async #placeAll(): Promise<void> {
    if (this.#placing) return;
    this.#placing = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) await this.#place(next);
    this.#placing = false;
  }

  async #place(request: Pending): Promise<void> {
    while (!request.signal.aborted && !this.#stopped.signal.aborted) {
      const runner = this.loaded.get(request.model.name);
      let victim: OllamaRunner | undefined;
      if (runner !== undefined) {
        while ((runner.loading || runner.leaving) && !runner.dead.aborted) await sleep(this.#dependencies.clock, 20);
        if (this.loaded.get(request.model.name) !== runner) continue;
        if (!needsReload(runner, request.options)) return this.#use(runner, request);
        victim = runner;
      } else if (
        // The CPU counts as a device where there is no other.
        this.loaded.size >=
        (this.maxLoadedModels ?? MODELS_PER_GPU * Math.max(1, this.#dependencies.gpuHost.cards.length))
      ) {
        victim = this.#victim();
      } else {
        const decision = this.#decide(request);
        if (decision === 'later') {
          this.#dependencies.clock.after(RESCHEDULE_MS, () => {
            this.#queue.push(request);
            void this.#placeAll();
          });
          return;
        }
        if (decision !== 'evict') return this.#load(request, decision);
        victim = this.#victim();
      }
      if (victim === undefined) continue;
      const unloaded = this.#nextUnload();
      this.#expireRunner(victim, victim === runner ? 'reload' : 'evicted');
      await unloaded;
    }
  }

  #decide({ model, options }: AcquireRequest): Placement | 'evict' | 'later' {
    const sizeMb = estimateMb(model, options.numCtx);
    const forced = this.#dependencies.faults.take('partial-offload', { model: model.name });
    const share = forced === null ? shareOfLayers(options.numGpu) : Number(forced.share ?? 0.6);
    if (share === 0) return { sizeMb, vramMb: {} };
    const cards = this.#freeCards();
    if (share < 1) return placePartly(sizeMb, cards, share);
    if (this.loaded.size === 0) return placeWhole(sizeMb, cards) ?? placePartly(sizeMb, cards);
    const loading = [...this.loaded.values()].filter((runner) => runner.loading);
    const busy = new Set(loading.flatMap((runner) => Object.keys(runner.placement.vramMb)));
    const whole = placeWhole(
      sizeMb,
      cards.filter(({ gpu }) => !busy.has(gpu)),
    );
    if (whole !== null) return whole;
    return busy.size > 0 ? 'later' : 'evict';
  }

  /** The smaller of what the card reports and what its own models leave, as Ollama reckons. */
  #freeCards(): FreeCard[] {
    const { gpuHost } = this.#dependencies;
    return gpuHost.cards.map((card) => {
      const gpu = card.spec.uuid;
      const predicted = [...this.loaded.values()].reduce((sum, r) => sum + (r.placement.vramMb[gpu] ?? 0), 0);
      return { gpu, freeMb: Math.min(gpuHost.freeMb(card), card.spec.totalMb - predicted) };
    });
  }

  /** The idle runner with the shortest time to stay, else the one with the shortest. */
  #victim(): OllamaRunner | undefined {
    const byStay = [...this.loaded.values()].sort((a, b) => a.sessionMs - b.sessionMs);
    return byStay.find((runner) => runner.refs <= 0) ?? byStay[0];
  }

  #load(request: Pending, placement: Placement): void {
    const { model, options, keepAliveMs, signal } = request;
    const sessionMs = keepAliveMs ?? DEFAULT_KEEP_ALIVE_MS;
    const runner = new OllamaRunner(model, options, placement, sessionMs, this.#dependencies);
    runner.refs = 1;
    this.loaded.set(model.name, runner);
    runner
      .load(AbortSignal.any([signal, this.#stopped.signal]))
      .then(() => {
        this.#changed();
        this.#hand(runner, request);
      })
      .catch((error: unknown) => {
        request.reject(error instanceof Error ? error : new Error(String(error)));
        if (signal.aborted) return this.#cancelled(runner);
        runner.refs--;
        runner.sessionMs = 0;
        this.#complete(() => this.#unload(runner, 'load failed'));
      });
  }

  /** Who asks for the model before Ollama notices is answered as if it were loaded, and it leaves all the same. */
  #cancelled(runner: OllamaRunner): void {
    const { clock } = this.#dependencies;
    clock.after(CANCEL_NOTICED_MS, () => {
      runner.refs--;
      runner.loading = false;
      clock.after(2 * LOADING_POLL_MS, () => this.#complete(() => this.#unload(runner, 'load cancelled')));
    });
  }

  #use(runner: OllamaRunner, request: Pending): void {
    runner.refs++;
    runner.cancelExpiry();
    if (request.keepAliveMs !== null) runner.sessionMs = request.keepAliveMs;
    this.#hand(runner, request);
  }

  /** A client that left in the meantime takes no lease, so that nothing stays in use for ever. */
  #hand(runner: OllamaRunner, request: Pending): void {
    const lease = this.#lease(runner);
    if (request.signal.aborted || this.#stopped.signal.aborted) lease.release();
    else request.resolve(lease);
  }

  #lease(runner: OllamaRunner): Lease {
    let released = false;
    return {
      runner,
      release: () => {
        if (released) return;
        released = true;
        this.#complete(() => this.#finish(runner));
      },
    };
  }

  #complete(task: () => Promise<void> | void): void {
    this.#completions = this.#completions.then(task);
  }

  #finish(runner: OllamaRunner): Promise<void> | void {
    if (this.loaded.get(runner.model.name) !== runner) return;
    runner.refs--;
    if (runner.refs > 0) return;
    if (runner.sessionMs <= 0) return this.#unload(runner, 'no keep-alive');
    this.#stayFor(runner, runner.sessionMs);
  }

  #stayFor(runner: OllamaRunner, ms: number): void {
    const { clock } = this.#dependencies;
    runner.cancelExpiry();
    runner.expiresAtMs = clock.now() + ms;
    runner.cancelExpiry = clock.after(ms, () => this.#complete(() => this.#unload(runner, 'keep-alive over')));
    this.#changed();
  }

  #expireRunner(runner: OllamaRunner, reason: string): void {
    runner.cancelExpiry();
    runner.sessionMs = 0;
    if (runner.refs <= 0) this.#complete(() => this.#unload(runner, reason));
  }

  async #unload(runner: OllamaRunner, reason: string): Promise<void> {
    const { clock, recorder } = this.#dependencies;
    const { name } = runner.model;
    if (this.loaded.get(name) !== runner || this.#stopped.signal.aborted) return;
    if (runner.refs > 0) {
      clock.after(10, () => this.#complete(() => this.#unload(runner, reason)));
      return;
    }
    const base = { model: name, holder: runner.process.holder };
    recorder.add({ kind: 'unload-start', ...base, reason });
    const beforeMb = this.#totalFreeMb();
    runner.leaving = true;
    await sleep(clock, EXIT_MS);
    void runner.exit();
    if (this.loaded.get(name) === runner) this.loaded.delete(name);
    recorder.add({ kind: 'gone', ...base });
    this.#changed();
    await this.#recovery(
      beforeMb,
      Object.values(runner.placement.vramMb).reduce((sum, mb) => sum + mb, 0),
    );
    for (const watcher of this.#unloadWatchers.splice(0)) watcher();
  }

  /** Waits, as Ollama does, until most of the expected memory is back or five seconds have passed. */
  async #recovery(beforeMb: number, expectedMb: number): Promise<void> {
    if (expectedMb === 0) return;
    const { clock } = this.#dependencies;
    const untilMs = clock.now() + RECOVERY_LIMIT_MS;
    while (clock.now() < untilMs && !this.#stopped.signal.aborted) {
      await sleep(clock, RECOVERY_POLL_MS);
      // Ollama subtracts unsigned: when another process took memory meanwhile, it sees an enormous gain and goes on.
      const gainMb = this.#totalFreeMb() - beforeMb;
      if (gainMb < 0 || gainMb > expectedMb * 0.8) return;
    }
  }

  #totalFreeMb(): number {
    const { gpuHost } = this.#dependencies;
    return gpuHost.cards.reduce((sum, card) => sum + gpuHost.freeMb(card), 0);
  }

  #nextUnload(): Promise<void> {
    return new Promise((resolve) => {
      this.#unloadWatchers.push(resolve);
      this.#stopped.signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
}

/** A dead runner, or other options, means that the model must be loaded anew. */
function needsReload(runner: OllamaRunner, options: RunnerOptions): boolean {
  const same =
    runner.options.numCtx === options.numCtx &&
    runner.options.numBatch === options.numBatch &&
    runner.options.numThread === options.numThread &&
    (options.numGpu < 0 || runner.options.numGpu === options.numGpu);
  return runner.dead.aborted || !same;
}
