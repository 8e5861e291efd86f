import type { ProcessSight } from '../../processes/proc.js';
import type { EndTarget } from '../processes/ending.js';
import type { TableEntry } from '../processes/tree.js';

export type Leader = Pick<ProcessSight, 'pid' | 'startTicks'>;

/** What one look at a run shows. */
export interface RunSight {
  /** `unknown`: a process is there that cannot be proven to be this run. */
  state: 'running' | 'ended' | 'unknown';
  /** All that lives of it; after its end, what is left over. */
  members: ProcessSight[];
}

/** One run of a service that lives, or whose remains do. */
export interface NativeRun {
  readonly id: string;
  /** Its first process; null for an intent whose process was never found. */
  readonly leader: Leader | null;
  /** UUIDs that it was started with; null for one started by hand. */
  readonly gpus: string[] | null;
  /** @param table of a moment ago, if there is one: to look through /proc is dear */
  look(table: readonly TableEntry[] | null): Promise<RunSight>;
  /** For `endTarget`. */
  readonly target: EndTarget;
  /** Removes what is kept of it, once nothing lives. */
  forget(): Promise<void>;
}
