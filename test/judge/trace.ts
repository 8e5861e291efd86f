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

/** A direct call to Ollama: what it makes Ollama do is not vramflow's doing. */
export interface DirectCall {
  model: string;
  fromMs: number;
  toMs: number;
}

/** Everything that one run of a sequence left behind, beside the record. */
export interface Trace {
  startedMs: number;
  firstSeq: number;
  firstJournal: number;
  told: Told[];
  direct: DirectCall[];
  /** Complaints that the watching itself raised. */
  seen: string[];
  /** When something from outside took a model away or Ollama's eviction may have (wall clock). */
  disturbedMs: number[];
}

/** From now on: what came before is not judged. */
export async function beginTrace(system: System): Promise<Trace> {
  const journal = await system.journal();
  return {
    ...emptyTrace(),
    startedMs: Date.now(),
    firstSeq: system.simulator.recorder.lastSeq,
    firstJournal: journal.at(-1)?.sequence ?? 0,
  };
}

export const emptyTrace = (): Trace => ({
  startedMs: 0,
  firstSeq: 0,
  firstJournal: 0,
  told: [],
  direct: [],
  seen: [],
  disturbedMs: [],
});
