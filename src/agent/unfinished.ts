import { randomUUID } from 'node:crypto';
import type { StoredReclaim } from './reclaims.js';
import type { StateFile } from './stateFile.js';

/** An effect that has begun, and of which the journal does not tell yet. */
export interface Begun {
  /** Of this effect alone: a later one on the same tenant has another. */
  id: string;
  kind: 'load' | 'unload' | 'move' | 'start' | 'stop';
  workflowId: string;
  /** The journal's last sequence then: what tells of it comes after. */
  sequence: number;
  /** Used MB by GPU before; null where there was no reading. */
  beforeMb: Record<string, number | null>;
  /** Where the embedder was, and goes. */
  from: string | null;
  to: string | null;
  /** What is to be proven free. */
  reclaim: StoredReclaim[];
}

/**
 * Effects under way, by tenant, also on disk: whoever proves one tells of it, also after a kill (M6, M15). An entry goes
 * with its event, or when the effect turns out not to have been carried out.
 */
export class Unfinished {
  private entries: Record<string, Begun>;
  /** Begun by a former agent. */
  private readonly former: Set<string>;
  private writeProblem: string | null = null;

  constructor(private readonly file: StateFile<Record<string, Begun>>) {
    this.entries = file.get();
    this.former = new Set(Object.values(this.entries).map(({ id }) => id));
  }

  of(tenant: string): Begun | null {
    return this.entries[tenant] ?? null;
  }

  /** What a former agent had begun, as far as nobody has taken it up: `taken` is to be called for each. */
  left(): [tenant: string, begun: Begun][] {
    return Object.entries(this.entries).filter(([, { id }]) => this.former.has(id));
  }

  taken({ id }: Begun): void {
    this.former.delete(id);
  }

  begin(tenant: string, begun: Omit<Begun, 'id'>): Begun {
    const entry = { ...begun, id: randomUUID() };
    this.write({ ...this.entries, [tenant]: entry });
    return entry;
  }

  /** Ends this entry, and no later one of the same tenant. */
  end(tenant: string, begun: Begun): void {
    if (this.of(tenant)?.id !== begun.id) return;
    const { [tenant]: _, ...others } = this.entries;
    this.write(others);
  }

  /** Why they are not on disk, or null; they are written again with the next change. */
  problem(): string | null {
    return this.writeProblem;
  }

  private write(entries: Record<string, Begun>): void {
    this.entries = entries;
    try {
      this.file.set(entries);
      this.writeProblem = null;
    } catch (error) {
      // A full disk must not hold an effect up.
      this.writeProblem = `effects under way cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}
