/** What a sequence is judged by: the simulator's record and the server's histories, beside what the test noted. */
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import type { OperationRun, StepWindow } from './operations.js';
import type { Trace } from './trace.js';

export interface Evidence {
  /** All of the host's record; the sequence's part begins after `trace.firstSeq`. */
  record: readonly RecordEntry[];
  /** The journal since the sequence began: it is judged, and judges nothing. */
  journal: JournalEntry[];
  windows: StepWindow[];
  runs: OperationRun[];
  trace: Trace;
  calm: boolean;
  settings: Settings;
  /** The mode that the status says at the end. */
  mode: string;
  /** How many times longer than usual things may take here and now (`busyness`). */
  busy: number;
}

/** What the host is configured to. */
export interface Settings {
  vlm: string;
  idleTimeoutMs: number;
  loadMs: number;
  unloadMs: number;
  maxRetries: number;
  /** By model. */
  modelMb: Record<string, number>;
  /** By GPU: what the driver keeps for itself, which counts as used. */
  reservedMb: Record<string, number>;
}

/** Between the processes' clocks and the order in which they write down: ms. */
export const SLACK_MS = 150;
/** The record notes the end of a process half-way through the return of its memory: real ms, at speed 1 and above. */
export const END_NOTED_MS = 1_500;

export type Of<K extends RecordEntry['kind'], E = RecordEntry> = E extends { kind: infer Kind }
  ? K & Kind extends never
    ? never
    : E
  : never;
export const isOf =
  <K extends RecordEntry['kind']>(...kinds: K[]) =>
  (entry: RecordEntry): entry is Of<K> =>
    kinds.includes(entry.kind as K);

/** Epoch ms of an entry of the record, and of one of the journal. */
export const wall = (entry: { at: string }): number => Date.parse(entry.at);
export const timeOf = (entry: { time: string }): number => Date.parse(entry.time);

export const own = ({ record, trace }: Pick<Evidence, 'record' | 'trace'>): RecordEntry[] =>
  record.filter(({ seq }) => seq > trace.firstSeq);

export const nameOf = ({ workflowId, kind, tenant }: StepWindow): string => `${kind} ${tenant} of ${workflowId}`;

export const isWithin = (ms: number, { fromMs, toMs }: { fromMs: number; toMs: number }, slackMs = SLACK_MS): boolean =>
  fromMs - slackMs <= ms && ms <= toMs + slackMs;

/** A direct call to Ollama was under way. */
export const isDirect = ({ trace }: Pick<Evidence, 'trace'>, at: number): boolean =>
  trace.direct.some((call) => isWithin(at, call));

/** Somebody outside vramflow took memory between two moments. */
export const othersTook = (evidence: Pick<Evidence, 'record' | 'trace'>, fromMs: number, toMs: number): boolean =>
  evidence.record
    .filter(isOf('allocated'))
    .some(
      (entry) =>
        wall(entry) >= fromMs &&
        wall(entry) <= toMs &&
        (entry.holderKind === 'compute' || (entry.holderKind === 'runner' && isDirect(evidence, wall(entry)))),
    );

/** What one holder has on all cards at a moment, MB. */
export function heldBy(record: readonly RecordEntry[], holder: string, at: number): number {
  const byGpu = new Map<string, number>();
  for (const entry of record) {
    if (wall(entry) > at) break;
    if (isOf('allocated', 'freed')(entry) && entry.holder === holder) byGpu.set(entry.gpu, entry.holderMb);
  }
  return [...byGpu.values()].reduce((sum, mb) => sum + mb, 0);
}
