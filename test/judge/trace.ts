/** What a test notes while it disturbs a host: the judge reads it beside the record. */
import type { OperationOutcome } from '../../src/contracts/operation.js';
import type { System } from '../system/system.js';

/** What one caller was told. */
export interface Told {
  /** What was asked for, for the message of a failed test. */
  action: string;
  workflowId: string | null;
  /** Null: the caller got an error, or left. */
  outcome: OperationOutcome | null;
  error: string | null;
}

/** One request for a text, through vramflow (M13). */
export interface Generated {
  model: string;
  fromMs: number;
  toMs: number;
  /** The caller left before the end. */
  left: boolean;
  error: { code: string; message: string } | null;
  hasText: boolean;
}

/** A direct call to Ollama: what it makes Ollama do is not vramflow's doing. */
export interface DirectCall {
  model: string;
  fromMs: number;
  toMs: number;
}

/** Everything that one run of a sequence left behind, beside the record. */
export interface Trace {
  startedMs: number;
  endedMs: number;
  firstSeq: number;
  firstJournal: number;
  /** The mode at the beginning. */
  mode: string;
  /** By GPU: the use that `vram_changed` told last; none of a GPU of which nothing was told yet. */
  reportedMb: Record<string, number>;
  told: Told[];
  generated: Generated[];
  direct: DirectCall[];
  /** Complaints that the watching itself raised. */
  seen: string[];
  /** When something from outside took a model away or Ollama's eviction may have (wall clock). */
  disturbedMs: number[];
}

/** From now on: what came before is not judged. */
export async function beginTrace(system: System): Promise<Trace> {
  const [journal, { execution_mode: mode }] = await Promise.all([system.journal(), system.status()]);
  const start = journal.findLastIndex(({ type }) => type === 'agent_started');
  const told = journal.slice(start + 1).filter(({ type }) => type === 'vram_changed');
  return {
    ...emptyTrace(),
    startedMs: Date.now(),
    firstSeq: system.simulator.recorder.lastSeq,
    firstJournal: journal.at(-1)?.sequence ?? 0,
    mode,
    reportedMb: Object.fromEntries(told.map(({ subject, details }) => [subject ?? '', Number(details['toMb'])])),
  };
}

export const emptyTrace = (): Trace => ({
  startedMs: 0,
  endedMs: Number.POSITIVE_INFINITY,
  firstSeq: 0,
  firstJournal: 0,
  mode: 'idle',
  reportedMb: {},
  told: [],
  generated: [],
  direct: [],
  seen: [],
  disturbedMs: [],
});
