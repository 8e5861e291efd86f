/** The judge of the random sequences can fail: each thing that it looks for, done once by a doctored record. */
import { describe, expect, it } from 'vitest';
import {
  entry,
  evidence,
  GPU,
  gone,
  loadEnd,
  loaded,
  loadStart,
  recordOf,
  request,
  runner,
  start,
  step,
  took,
  unloadStart,
  VLM,
} from './doctored.js';
import type { Evidence } from './evidence.js';
import { judge } from './judge.js';

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
