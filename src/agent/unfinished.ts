import type { StoredReclaim } from './reclaims.js';
import type { StateFile } from './stateFile.js';

/** An effect that has begun, and of which the journal does not tell yet. */
export interface Begun {
  kind: 'load' | 'unload' | 'move';
  workflowId: string;
  /** Used MB by GPU before; null where there was no reading. */
  beforeMb: Record<string, number | null>;
  /** Where the embedder was, and goes. */
  from: string | null;
  to: string | null;
  /** What is to be proven free. */
  reclaim: StoredReclaim[];
}

/**
 * Effects under way, by tenant, on disk: an agent that is killed between an effect and its event tells of it after its
 * next start (M6, M15).
 */
export class Unfinished {
  constructor(private readonly file: StateFile<Record<string, Begun>>) {}

  of(tenant: string): Begun | null {
    return this.file.get()[tenant] ?? null;
  }

  all(): [tenant: string, begun: Begun][] {
    return Object.entries(this.file.get());
  }

  begin(tenant: string, begun: Begun): void {
    this.file.set({ ...this.file.get(), [tenant]: begun });
  }

  /** @returns what was begun and is now told of, or given up; null when somebody has done that before */
  end(tenant: string): Begun | null {
    const { [tenant]: begun, ...others } = this.file.get();
    if (begun === undefined) return null;
    this.file.set(others);
    return begun;
  }
}
