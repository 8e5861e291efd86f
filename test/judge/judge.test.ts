/** The judge of the random sequences can fail: each thing that it looks for, done once by a doctored record. */
import { describe, expect, it } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { RecordEntry, RecordEvent } from '../../src/simulator/record.js';
import { type Evidence, judge } from './judge.js';
import type { StepWindow } from './operations.js';
import { emptyTrace } from './trace.js';

const VLM = 'qwen3-vl:8b';
const GPU = 'GPU-1';
const at = (ms: number): string => new Date(ms).toISOString();

/** Each event a second after the one before, from second 1 on. */
const recordOf = (...events: RecordEvent[]): RecordEntry[] =>
  events.map((event, index) => ({ seq: index + 1, atMs: (index + 1) * 1_000, at: at((index + 1) * 1_000), ...event }));

const start: RecordEvent = {
  kind: 'start',
  preset: 'rtx4090',
  seed: 1,
  speed: 1,
  cards: [{ gpu: GPU, totalMb: 24_564 }],
};
const runner = { holderKind: 'runner', name: 'ollama', gpu: GPU } as const;
const loadStart = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'load-start',
  model,
  holder,
  sizeMb: 10_500,
  vramMb: { [GPU]: 10_500 },
  numCtx: 2_048,
});
const loadEnd = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'load-end',
  model,
  holder,
  outcome: 'loaded',
  error: null,
});
const unloadStart = (holder = 'r1', model = VLM): RecordEvent => ({
  kind: 'unload-start',
  model,
  holder,
  reason: 'asked',
});
const gone = (holder = 'r1', model = VLM): RecordEvent => ({ kind: 'gone', model, holder });
const request = (kind: 'request-start' | 'request-end'): RecordEvent =>
  kind === 'request-start'
    ? { kind, request: 1, path: '/api/generate', model: VLM }
    : { kind, request: 1, path: '/api/generate', model: VLM, status: 200, aborted: false };
const took = (change: Partial<Extract<RecordEvent, { kind: 'allocated' | 'freed' }>> = {}): RecordEvent => ({
  kind: 'allocated',
  holder: 'r1',
  ...runner,
  mb: 10_500,
  holderMb: 10_500,
  usedMb: 10_500,
  ...change,
});

/** A step from one second of the record to another. */
const step = (from: number, to: number, change: Partial<StepWindow> = {}): StepWindow => ({
  workflowId: 'mode/h/1',
  runId: 'run-1',
  kind: 'load',
  tenant: `model/${VLM}`,
  devices: [GPU, 'cpu'],
  epochs: { [GPU]: 1, cpu: 1 },
  fromMs: from * 1_000,
  toMs: to * 1_000,
  ended: 'completed',
  ...change,
});

const entry = (second: number, change: Partial<JournalEntry>): JournalEntry => ({
  sequence: second,
  time: at(second * 1_000),
  type: 'operation',
  subject: null,
  message: '',
  workflowId: 'mode/h/1',
  details: {},
  ...change,
});

const loaded = (second: number): JournalEntry => entry(second, { type: 'model_loaded', subject: `model/${VLM}` });

const evidence = (change: Partial<Evidence>): Evidence => ({
  record: [],
  journal: [],
  windows: [],
  trace: emptyTrace(),
  calm: true,
  vlm: VLM,
  idleTimeoutSeconds: 300,
  ...change,
});

describe('the judge', () => {
  it('has nothing to say of a load within its step, with its event', () => {
    const record = recordOf(start, loadStart(), took(), loadEnd());
    expect(judge(evidence({ record, windows: [step(1, 5)], journal: [loaded(5)] }))).toEqual([]);
  });

  it.each<[string, string, Partial<Evidence>]>([
    [
      'a card over its total',
      'over-total',
      { record: recordOf(start, took({ mb: 30_000, holderMb: 30_000, usedMb: 30_000 })) },
    ],
    [
      'an out-of-memory',
      'out-of-memory',
      { record: recordOf(start, { kind: 'oom', holder: 'r1', ...runner, askedMb: 900, freeMb: 100 }) },
    ],
    [
      'a second runner of a model',
      'M9',
      { record: recordOf(start, loadStart(), loadEnd(), loadStart('r2')), windows: [step(1, 9)] },
    ],
    [
      'an end without an unload',
      'M3',
      { record: recordOf(start, loadStart(), loadEnd(), gone()), windows: [step(1, 9)] },
    ],
    [
      'changes of two operations at once',
      'M11',
      { windows: [step(1, 5), step(4, 6, { runId: 'run-2', epochs: { [GPU]: 2, cpu: 2 } })] },
    ],
    [
      'an older epoch after a newer one',
      'law 3',
      { windows: [step(1, 3, { epochs: { [GPU]: 2 } }), step(4, 6, { runId: 'run-2' })] },
    ],
    ['a load that no step made', 'law 3', { record: recordOf(start, loadStart(), loadEnd()) }],
    [
      'CLIP on the GPU when the VLM load ends',
      'M7',
      {
        record: recordOf(
          start,
          took({ holder: 'e1', holderKind: 'embedder', mb: 500, holderMb: 500, usedMb: 500 }),
          loadStart(),
          loadEnd(),
        ),
        windows: [step(1, 9)],
        journal: [loaded(9)],
      },
    ],
    [
      'a load said to be done without the model',
      'M9',
      {
        journal: [
          entry(5, {
            details: {
              goal: { kind: 'model', tenant: `model/${VLM}`, verb: 'load', demand: false },
              outcome: { status: 'done', summary: 'loaded' },
            },
          }),
        ],
      },
    ],
    [
      'autopilot with the VLM there',
      'M1',
      {
        record: recordOf(start, loadStart(), loadEnd()),
        windows: [step(1, 4)],
        journal: [
          loaded(4),
          entry(5, {
            details: { goal: { kind: 'mode', mode: 'autopilot' }, outcome: { status: 'done', summary: '' } },
          }),
        ],
      },
    ],
    [
      'a load without its event',
      'M15: 1 loads, 1 with those cut short, 0 model_loaded',
      { record: recordOf(start, loadStart(), loadEnd()), windows: [step(1, 4)] },
    ],
    ['an event without its load', 'M15', { journal: [loaded(4)] }],
    [
      'an unload whose memory is not back',
      'M6',
      {
        calm: false,
        record: recordOf(start, loadStart(), took(), loadEnd(), unloadStart(), gone()),
        journal: [
          entry(9, {
            type: 'model_unloaded',
            subject: `model/${VLM}`,
            details: { beforeMb: { [GPU]: 11_000 }, afterMb: { [GPU]: 11_000 }, by: 'its word' },
          }),
        ],
      },
    ],
    [
      'a move without a probe',
      'M8',
      { journal: [entry(3, { type: 'device_changed', subject: 'embedder/clip', details: { by: 'hope' } })] },
    ],
    [
      'an idle unload of a model that was just used',
      'M12',
      {
        calm: false,
        record: recordOf(
          start,
          loadStart(),
          loadEnd(),
          request('request-start'),
          request('request-end'),
          unloadStart(),
          gone(),
        ),
        windows: [step(6, 8, { kind: 'unload', workflowId: 'idle/h/1' })],
        journal: [entry(8, { type: 'idle_unload', subject: `model/${VLM}`, workflowId: 'idle/h/1' })],
      },
    ],
    [
      'an end of the desktop',
      'law 5',
      { record: recordOf(start, { kind: 'process-end', holder: 'g1', holderKind: 'graphics', name: 'Xorg', pid: 7 }) },
    ],
  ])('complains of %s', (_name, complaint, doctored) => {
    expect(judge(evidence(doctored))).toEqual(expect.arrayContaining([expect.stringContaining(complaint)]));
  });
});
