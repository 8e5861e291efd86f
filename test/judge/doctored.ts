/** Doctored evidence: records, histories and journals of things that happened, for the tests of the judge. */
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import type { RecordEntry, RecordEvent } from '../../src/simulator/record.js';
import type { Evidence } from './evidence.js';
import type { OperationRun, StepWindow } from './operations.js';
import { emptyTrace, type Generated, type Trace } from './trace.js';

export const VLM = 'qwen3-vl:8b';
export const GPU = 'GPU-1';
export const at = (ms: number): string => new Date(ms).toISOString();

/** Each event a second after the one before, from second 1 on. */
export const recordOf = (...events: RecordEvent[]): RecordEntry[] =>
  events.map((event, index) => ({ seq: index + 1, atMs: (index + 1) * 1_000, at: at((index + 1) * 1_000), ...event }));

export const start: RecordEvent = {
  kind: 'start',
  preset: 'rtx4090',
  seed: 1,
  speed: 1,
  cards: [{ gpu: GPU, totalMb: 24_564 }],
};
export const runner = { holderKind: 'runner', name: 'ollama', gpu: GPU } as const;
export const loadStart = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'load-start',
  model,
  holder,
  sizeMb: 10_500,
  vramMb: { [GPU]: 10_500 },
  numCtx: 2_048,
});
export const loadEnd = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'load-end',
  model,
  holder,
  outcome: 'loaded',
  error: null,
});
export const unloadStart = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'unload-start',
  model,
  holder,
  reason: 'asked',
});
export const gone = (holder = 'r1', model = VLM): RecordEvent => ({ kind: 'gone', model, holder });
export const request = (kind: 'request-start' | 'request-end'): RecordEvent =>
  kind === 'request-start'
    ? { kind, request: 1, path: '/api/generate', model: VLM }
    : { kind, request: 1, path: '/api/generate', model: VLM, status: 200, aborted: false };
export const took = (change: Partial<Extract<RecordEvent, { kind: 'allocated' | 'freed' }>> = {}): RecordEvent => ({
  kind: 'allocated',
  holder: 'r1',
  ...runner,
  mb: 10_500,
  holderMb: 10_500,
  usedMb: 10_500,
  ...change,
});

/** A step from one second of the record to another. */
export const step = (from: number, to: number, change: Partial<StepWindow> = {}): StepWindow => ({
  workflowId: 'mode/h/1',
  runId: 'run-1',
  kind: 'load',
  tenant: `model/${VLM}`,
  to: null,
  devices: [GPU, 'cpu'],
  epochs: { [GPU]: 1, cpu: 1 },
  fromMs: from * 1_000,
  startedMs: from * 1_000,
  toMs: to * 1_000,
  ended: 'completed',
  failure: null,
  ...change,
});

export const entry = (second: number, change: Partial<JournalEntry>): JournalEntry => ({
  sequence: second,
  time: at(second * 1_000),
  type: 'operation',
  subject: null,
  message: '',
  workflowId: 'mode/h/1',
  details: {},
  ...change,
});

/** A switch that was asked for, granted and released at these seconds. */
export const run = (
  [asked, granted, released]: [number, number, number],
  change: Partial<OperationRun> & { status?: OperationOutcome['status']; failedTenant?: string } = {},
): OperationRun => {
  const { status = 'done', failedTenant = null, ...more } = change;
  return {
    workflowId: 'mode/h/1',
    runId: 'run-1',
    goal: { kind: 'mode', mode: 'idle' },
    priority: 50,
    startedMs: asked * 1_000,
    askedMs: asked * 1_000,
    grantedMs: granted * 1_000,
    gaveUpMs: null,
    releasedMs: released * 1_000,
    outcome: { status, failedTenant } as OperationOutcome,
    ...more,
  };
};

export const asked = (change: Partial<Generated> = {}): Trace => ({
  ...emptyTrace(),
  generated: [{ model: VLM, fromMs: 2_000, toMs: 9_000, left: false, error: null, hasText: true, ...change }],
});

export const used = (second: number, fromMb: number, toMb: number): JournalEntry =>
  entry(second, { type: 'vram_changed', subject: GPU, details: { fromMb, toMb } });

export const embedder = (kind: 'process-start' | 'process-end'): RecordEvent => ({
  kind,
  holder: 'e1',
  holderKind: 'embedder',
  name: 'clip',
  pid: 9,
});
export const embed: RecordEvent = { kind: 'embed', pid: 9, device: 'cuda', input: 'text', count: 1 };
export const move = (from: number, to: number, change: Partial<StepWindow> = {}): StepWindow =>
  step(from, to, { kind: 'move', tenant: 'embedder/clip', to: GPU, ...change });
export const moved = (second: number): JournalEntry =>
  entry(second, {
    type: 'device_changed',
    subject: 'embedder/clip',
    details: { from: 'cpu', to: GPU, by: 'embeddings are valid' },
  });

export const loaded = (second: number): JournalEntry =>
  entry(second, { type: 'model_loaded', subject: `model/${VLM}` });

export const evidence = (change: Partial<Evidence>): Evidence => ({
  record: [],
  journal: [],
  windows: [],
  runs: [],
  trace: emptyTrace(),
  calm: true,
  settings: {
    vlm: VLM,
    idleTimeoutMs: 300_000,
    loadMs: 30_000,
    unloadMs: 5_000,
    maxRetries: 3,
    modelMb: { [VLM]: 10_752 },
    reservedMb: { [GPU]: 346 },
  },
  mode: 'idle',
  busy: 1,
  ...change,
});
