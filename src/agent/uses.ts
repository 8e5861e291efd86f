import type { StateFile } from './stateFile.js';

/** Writes of the last use are gathered: a burst of requests is one write. */
const WRITE_EVERY_MS = 500;

/** When each tenant was used last: never goes back (M12), survives restarts. Times are epoch milliseconds. */
export class Uses {
  private readonly last: Map<string, number>;
  private timer: NodeJS.Timeout | null = null;
  private writeProblem: string | null = null;

  constructor(
    private readonly file: StateFile<Record<string, number>>,
    private readonly now: () => number,
    private readonly startedAt = now(),
  ) {
    // A clock that was wrong when a use was written must not keep a model for ever: no use is later than this start.
    this.last = new Map(Object.entries(file.get()).map(([tenant, at]) => [tenant, Math.min(at, startedAt)]));
  }

  touch(tenant: string, at = this.now()): void {
    const known = this.last.get(tenant) ?? 0;
    const used = Math.min(at, this.now());
    if (used <= known) return;
    this.last.set(tenant, used);
    this.timer ??= setTimeout(() => this.flush(), WRITE_EVERY_MS);
  }

  /** Why the times are not on disk, or null; they are written again with the next use. */
  problem(): string | null {
    return this.writeProblem;
  }

  lastUse(tenant: string): number | null {
    return this.last.get(tenant) ?? null;
  }

  /** Milliseconds since the later of the last use and the agent's start (law 10). */
  idleFor(tenant: string): number {
    return Math.max(0, this.now() - Math.max(this.last.get(tenant) ?? 0, this.startedAt));
  }

  flush(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    try {
      this.file.set(Object.fromEntries(this.last));
      this.writeProblem = null;
    } catch (error) {
      this.writeProblem = `the times of use cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}
