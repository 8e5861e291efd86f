import { unknownName } from './errors.js';
import type { OllamaContext } from './ollamaHandlers.js';
import { OllamaRunner, type RunnerDependencies } from './ollamaRunner.js';
import { OllamaScheduler } from './ollamaScheduler.js';
import { OllamaServer } from './ollamaServer.js';
import type { ModelSpec } from './presets.js';

/** The `ollama serve` process: it can end, with or without its runners, start again, and be out of reach. */
export class OllamaService {
  readonly #dependencies: RunnerDependencies;
  readonly #models: readonly ModelSpec[];
  readonly #server: OllamaServer;
  readonly #changed: () => void;
  #scheduler: OllamaScheduler;
  #running = true;
  #maxLoadedModels: number | null = null;
  #reconciled: Promise<void> = Promise.resolve();

  constructor(dependencies: RunnerDependencies, models: readonly ModelSpec[], port: number, changed: () => void) {
    this.#dependencies = dependencies;
    this.#models = models;
    this.#changed = changed;
    this.#scheduler = new OllamaScheduler(dependencies, changed);
    this.#server = new OllamaServer(() => this.#context(), port);
    dependencies.faults.onChange(() => void this.#reconcile());
  }

  get scheduler(): OllamaScheduler {
    return this.#scheduler;
  }

  get running(): boolean {
    return this.#running;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server.port}`;
  }

  get maxLoadedModels(): number | null {
    return this.#maxLoadedModels;
  }

  set maxLoadedModels(limit: number | null) {
    this.#maxLoadedModels = limit;
    this.#scheduler.maxLoadedModels = limit;
  }

  /** The runners in the order of their loading. */
  get runners(): OllamaRunner[] {
    return [...this.#scheduler.loaded.values()];
  }

  /** Starts the server, with nothing loaded. Resolves once it accepts connections, unless a fault keeps it away. */
  async start(): Promise<void> {
    this.#running = true;
    await this.#reconcile();
    this.#dependencies.recorder.add({ kind: 'ollama-started' });
  }

  /** Ends the server: connections are refused, what is in flight is cut. Orphans are runners that outlive it. */
  async stop(orphans: boolean): Promise<void> {
    this.#running = false;
    this.#scheduler.stop(orphans);
    this.#scheduler = new OllamaScheduler(this.#dependencies, this.#changed);
    this.#scheduler.maxLoadedModels = this.#maxLoadedModels;
    await this.#reconcile();
    this.#dependencies.recorder.add({ kind: 'ollama-stopped' });
    this.#changed();
  }

  /** @throws {BadRequest} when the model is not loaded. */
  crashRunner(model: string): void {
    const runner = this.runners.find(({ model: { name } }) => name === model || name === `${model}:latest`);
    if (runner === undefined) unknownName('loaded model', model, this.#scheduler.loaded.keys());
    runner.crash();
  }

  /** Takes up a runner of an earlier run of the simulator. */
  adopt(runner: OllamaRunner): void {
    this.#scheduler.adopt(runner);
  }

  /** Brings the listening in line with what is wanted, one change after the other. */
  #reconcile(): Promise<void> {
    this.#reconciled = this.#reconciled.then(async () => {
      const reachable = this.#running && this.#dependencies.faults.active('ollama-unavailable') === null;
      if (reachable) await this.#server.listen();
      else await this.#server.close();
    });
    return this.#reconciled;
  }

  #context(): OllamaContext {
    return { ...this.#dependencies, scheduler: this.#scheduler, models: this.#models };
  }
}
