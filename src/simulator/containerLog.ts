import type { Clock } from './clock.js';

export interface LogMessage {
  readonly output: 'stdout' | 'stderr';
  /** Epoch ms. */
  readonly at: number;
  readonly text: string;
}

/** More than anybody reads back; the oldest go first. */
const CAPACITY = 10_000;

/** What a container wrote, over all its runs. */
export class ContainerLog {
  readonly #clock: Clock;
  readonly #messages: LogMessage[] = [];
  readonly #watchers = new Set<(message: LogMessage) => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get messages(): readonly LogMessage[] {
    return this.#messages;
  }

  write(text: string, output: LogMessage['output'] = 'stdout'): void {
    const message = { output, at: this.#clock.dateOf(this.#clock.now()).getTime(), text };
    this.#messages.push(message);
    if (this.#messages.length > CAPACITY) this.#messages.shift();
    for (const watcher of this.#watchers) watcher(message);
  }

  /** Calls `watcher` with each new message until the returned function is called. */
  watch(watcher: (message: LogMessage) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}
