import { describe, expect, it } from 'vitest';
import {
  embed,
  embedder,
  entry,
  evidence,
  GPU,
  move,
  moved,
  recordOf,
  run,
  start,
  step,
  took,
  used,
  VLM,
} from './doctored.js';
import { failuresAreTold, modesAreTold, movesAreTold } from './events.js';
import { emptyTrace } from './trace.js';
import { vramChangesAreTold } from './vramEvents.js';

describe('events of failures', () => {
  const failedRun = run([1, 1, 5], { status: 'failed', failedTenant: `model/${VLM}` });
  const told = (type: 'load_failed' | 'unload_failed') =>
    entry(5, { type, subject: `model/${VLM}`, details: { runId: 'run-1' } });
  const windows = [step(2, 4, { ended: 'failed', failure: 'LoadFailed' })];
  const judged = (change: object) => failuresAreTold(evidence({ calm: false, windows, ...change }));

  it('come once for each operation that failed by a model', () => {
    expect(judged({ runs: [failedRun], journal: [told('load_failed')] })).toEqual([]);
    expect(judged({ runs: [failedRun] })).toEqual([`M15: mode/h/1 failed by model/${VLM}, told 0 times`]);
  });

  it('name what failed, and never come on a calm host', () => {
    expect(judged({ runs: [failedRun], journal: [told('unload_failed')] })).toEqual([
      `M15: unload_failed of model/${VLM}, but it had no unload`,
    ]);
    expect(judged({ calm: true, runs: [failedRun], journal: [told('load_failed')] })).toEqual([
      expect.stringMatching(/load_failed on a calm host/),
    ]);
  });
});

describe('events of modes', () => {
  const goal = { kind: 'mode' as const, mode: 'recording' };
  const told = entry(5, { type: 'mode_changed', details: { from: 'idle', to: 'recording' } });

  it('tell the switches that were carried out, in their order', () => {
    const trace = emptyTrace();
    expect(modesAreTold({ runs: [run([1, 1, 5], { goal })], journal: [told], trace })).toEqual([]);
    expect(modesAreTold({ runs: [run([1, 1, 5], { goal })], journal: [], trace })).toHaveLength(1);
    expect(modesAreTold({ runs: [run([1, 1, 5], { goal, status: 'failed' })], journal: [told], trace })).toHaveLength(
      1,
    );
  });
});

describe('events of moves', () => {
  const judged = (record: Parameters<typeof recordOf>, journal = [moved(5)]) =>
    movesAreTold(evidence({ record: recordOf(...record), windows: [move(1, 5)], journal }));

  it('are true, proven by a probe, and there', () => {
    expect(judged([start, embedder('process-start'), embed])).toEqual([]);
    expect(judged([start, embedder('process-start'), embed, embed, embed, embedder('process-end')])).toEqual([]);
    expect(judged([start, embedder('process-start')])).toEqual([expect.stringMatching(/no probe asked it there/)]);
    expect(judged([start, embed])).toContainEqual(expect.stringMatching(/^M15: CLIP is said to be on .*, and is not/));
    expect(judged([start, embedder('process-start'), embed], [])).toEqual([
      'M15: 1 moves, 1 with those cut short, 0 device_changed events',
    ]);
  });
});

describe('events of memory', () => {
  const record = recordOf(start, took({ usedMb: 500 }), took({ usedMb: 10_000 }));
  const judged = (journal: Parameters<typeof vramChangesAreTold>[0]['journal'], more: object = {}) =>
    vramChangesAreTold({
      ...evidence({ record, journal }),
      trace: { ...emptyTrace(), reportedMb: { [GPU]: 846 }, endedMs: 20_000, ...more },
    });

  it('tell what the card used, what the driver keeps included', () => {
    expect(judged([used(4, 846, 10_346)])).toEqual([]);
    expect(judged([used(4, 846, 5_000), used(5, 5_000, 10_346)])).toEqual([
      expect.stringMatching(/it never used that/),
    ]);
  });

  it('are told of changes, each following on the one before', () => {
    expect(judged([used(4, 900, 10_346)])).toEqual([expect.stringMatching(/follows on 846 MB/)]);
    expect(judged([used(4, 846, 10_346), used(5, 10_346, 10_346)])).toEqual([expect.stringMatching(/is no change/)]);
  });

  it('are missed where a change lasts, unless the reader did not work', () => {
    expect(judged([])).toEqual([expect.stringMatching(/used 10346 MB .* told 846 MB last/)]);
    const broken = recordOf(start, took({ usedMb: 500 }), took({ usedMb: 10_000 }), {
      kind: 'fault-set',
      fault: 'smi-na',
      params: {},
    });
    const trace = { ...emptyTrace(), reportedMb: { [GPU]: 846 }, endedMs: 20_000 };
    expect(vramChangesAreTold({ ...evidence({ record: broken, journal: [] }), trace })).toEqual([]);
  });
});
