import type { Clock } from './clock.js';
import type { RecordEntry, RecordEvent } from './record.js';

/** About 50 bytes a figure and forty entries a load: enough for hours of any test, and bounded. */
const CAPACITY = 200_000;

/** Writes the record: what happened, in order, with the simulated and the wall-clock time. */
export class Recorder {
  readonly #clock: Clock;
  readonly #entries: RecordEntry[] = [];
  readonly #watchers = new Set<(entry: RecordEntry) => void>();
  #seq: number;

  /** `lastSeq`: where a former record, continued by this one, ended. */
  constructor(clock: Clock, lastSeq = 0) {
    this.#clock = clock;
    this.#seq = lastSeq;
  }

  get lastSeq(): number {
    return this.#seq;
  }

  /** The entries still kept, oldest first. */
  get entries(): readonly RecordEntry[] {
    return this.#entries;
  }

  add(event: RecordEvent): void {
    const atMs = this.#clock.now();
    const entry = { seq: ++this.#seq, atMs, at: this.#clock.dateOf(atMs).toISOString(), ...event } as RecordEntry;
    this.#entries.push(entry);
    if (this.#entries.length > CAPACITY) this.#entries.shift();
    for (const watcher of this.#watchers) watcher(entry);
  }

  /** Those after `seq`, and whether older ones were asked for that are no longer kept. */
  after(seq: number): { entries: RecordEntry[]; truncated: boolean } {
    const first = this.#entries[0]?.seq ?? this.#seq + 1;
    return {
      entries: this.#entries.slice(Math.max(0, seq - first + 1)),
      truncated: first > seq + 1,
    };
  }

  /** Calls `watcher` with each new entry until the returned function is called. */
  watch(watcher: (entry: RecordEntry) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** Resolves with the first entry, kept or to come, that `matches`. */
  waitFor(matches: (entry: RecordEntry) => boolean): Promise<RecordEntry> {
    const known = this.#entries.find(matches);
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve) => {
      const stop = this.watch((entry) => {
        if (!matches(entry)) return;
        stop();
        resolve(entry);
      });
    });
  }
}
