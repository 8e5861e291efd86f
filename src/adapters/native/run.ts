import type { EndTarget } from '../processes/ending.js';
import type { ProcessSight } from '../processes/proc.js';

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
  readonly leader: Pick<ProcessSight, 'pid' | 'startTicks'>;
  /** UUIDs that it was started with; null for one started by hand. */
  readonly gpus: string[] | null;
  look(): Promise<RunSight>;
  /** For `endTarget`. */
  readonly target: EndTarget;
  /** Removes what is kept of it, once nothing lives. */
  forget(): Promise<void>;
}
