import { describe, expect, it } from 'vitest';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { RecordEntry, RecordEvent } from '../../src/simulator/record.js';
import type { StepWindow } from './operations.js';
import { judgeServiceEvidence, type ServiceEvidence } from './services.js';
import { emptyTrace } from './trace.js';
import { wantedAfter } from './wantedServices.js';

const GPU = 'GPU-1';
const START = 1_700_000_000_000;

/** A record that begins with one card; each event `ms` after the start. */
function recordOf(events: [ms: number, event: RecordEvent][]): RecordEntry[] {
  const start: RecordEvent = { kind: 'start', preset: 'x', seed: 1, speed: 1, cards: [{ gpu: GPU, totalMb: 24_000 }] };
  return [[0, start] as const, ...events].map(([ms, event], seq) => ({
    seq,
    atMs: ms,
    at: new Date(START + ms).toISOString(),
    ...event,
  }));
}

const of = (name: string, pid: number) => ({ holder: `service-${pid}`, holderKind: 'service' as const, name });
const start = (name: string, pid: number): RecordEvent => ({ kind: 'process-start', pid, ...of(name, pid) });
const end = (name: string, pid: number): RecordEvent => ({ kind: 'process-end', pid, ...of(name, pid) });
const takes = (name: string, pid: number, mb: number, usedMb = mb): RecordEvent => ({
  kind: 'allocated',
  ...of(name, pid),
  gpu: GPU,
  mb,
  holderMb: mb,
  usedMb,
});
const gives = (name: string, pid: number, mb: number, usedMb = 0): RecordEvent => ({
  kind: 'freed',
  ...of(name, pid),
  gpu: GPU,
  mb,
  holderMb: 0,
  usedMb,
});

const step = (workflowId: string, kind: StepWindow['kind'], name: string, from: number, to: number): StepWindow => ({
  workflowId,
  runId: workflowId,
  kind,
  tenant: `service/${name}`,
  to: null,
  devices: [GPU],
  epochs: { [GPU]: 1 },
  fromMs: START + from,
  startedMs: START + from,
  toMs: START + to,
  ended: 'completed',
  failure: null,
});

const judged = (record: RecordEntry[], windows: StepWindow[], killed: number[] = []): string[] => {
  const evidence: ServiceEvidence = {
    record,
    journal: [],
    windows,
    trace: { ...emptyTrace(), killed: new Set(killed) },
    priorities: { high: 90, low: 10 },
  };
  return judgeServiceEvidence(evidence);
};

const lowRan = recordOf([
  [100, start('low', 7)],
  [200, takes('low', 7, 20_000)],
  [5_000, end('low', 7)],
  [5_200, gives('low', 7, 20_000)],
  [6_000, start('high', 8)],
]);

describe('the judge of services', () => {
  it('finds nothing where a higher one made room for itself, and waited for the memory', () => {
    const id = 'service/h/high/start/1';
    expect(judged(lowRan, [step(id, 'unload', 'low', 4_500, 5_300), step(id, 'load', 'high', 5_400, 7_000)])).toEqual(
      [],
    );
  });

  it('finds a service that ended in nobody’s step, unless the test killed it', () => {
    const load = step('service/h/high/start/1', 'load', 'high', 5_400, 7_000);
    expect(judged(lowRan, [load])).toEqual([expect.stringMatching(/law 3: low \(7\) ended/)]);
    expect(judged(lowRan, [load], [7])).toEqual([]);
  });

  it('finds a higher one that a lower one stopped, a stop that stopped another, and a reconciliation that did', () => {
    const highRan = recordOf([
      [100, start('high', 7)],
      [5_000, end('high', 7)],
    ]);
    const by = (id: string) => judged(highRan, [step(id, 'unload', 'high', 4_500, 5_300)]);
    expect(by('service/h/low/start/1')).toEqual([expect.stringMatching(/stopped high of priority 90, its own is 10/)]);
    expect(by('service/h/low/stop/1')).toHaveLength(1);
    expect(by('reconcile/h/1')).toEqual([expect.stringMatching(/which worked/)]);
    expect(by('service/h/high/stop/1')).toEqual([]);
    expect(by('phase/h/2/1')).toEqual([]);
  });

  it('finds a start before the memory is back', () => {
    const id = 'phase/h/2/1';
    const early = [step(id, 'unload', 'low', 4_500, 5_050), step(id, 'load', 'high', 5_100, 7_000)];
    expect(judged(lowRan, early)).toEqual([expect.stringMatching(/P6: service\/high began while .* held 20000 MB/)]);
  });

  it('finds an out-of-memory, and excuses it where a stranger took memory meanwhile', () => {
    const oom: RecordEvent = { kind: 'oom', ...of('high', 8), gpu: GPU, askedMb: 20_000, freeMb: 4_000 };
    const stranger: RecordEvent = {
      kind: 'allocated',
      holder: 'compute-9',
      holderKind: 'compute',
      name: 'game',
      gpu: GPU,
      mb: 20_000,
      holderMb: 20_000,
      usedMb: 20_000,
    };
    const load = [step('phase/h/2/1', 'load', 'high', 1_000, 3_000)];
    expect(judged(recordOf([[2_000, oom]]), load)).toEqual([expect.stringMatching(/^out-of-memory: high/)]);
    expect(
      judged(
        recordOf([
          [1_500, stranger],
          [2_000, oom],
        ]),
        load,
      ),
    ).toEqual([]);
  });
});

describe('what is wanted in the end', () => {
  const pipeline = {
    services: { a: { vramMb: 1, priority: 1 }, b: { vramMb: 1, priority: 1 } },
    phases: { one: ['a'] },
  };
  /** An operation that took the second from 100 s on. */
  const ended = (goal: object, status: string, more: object = {}): JournalEntry =>
    ({
      time: new Date(START + 101_000).toISOString(),
      details: { goal, outcome: { status, steps: [], displaced: [], totalMs: 1_000, ...more } },
    }) as unknown as JournalEntry;
  const phase = ended({ kind: 'phase', phase: 'one' }, 'done');
  const failedPhase = ended({ kind: 'phase', phase: 'one' }, 'failed');
  const serviceGoal = (name: string, verb: string) => ({ kind: 'service', tenant: `service/${name}`, verb });
  const wanted = (operations: JournalEntry[], events: [ms: number, event: RecordEvent][] = []) =>
    wantedAfter(operations, pipeline, recordOf(events));

  it('is what the phase lists, what was started since, and not what was displaced or stopped', () => {
    expect(wanted([phase]).must).toEqual(new Set(['a']));
    const b = ended(serviceGoal('b', 'start'), 'done', { displaced: ['service/a'] });
    expect(wanted([phase, b])).toEqual({ must: new Set(['b']), may: new Set() });
    expect(wanted([phase, ended(serviceGoal('a', 'stop'), 'done')]).must).toEqual(new Set());
  });

  it('leaves open what a stop left that failed; a refusal changes nothing', () => {
    expect(wanted([phase, ended(serviceGoal('a', 'stop'), 'cancelled')]).may).toEqual(new Set(['a']));
    expect(wanted([phase, ended(serviceGoal('b', 'start'), 'refused')])).toEqual({
      must: new Set(['a']),
      may: new Set(),
    });
  });

  it('stays so where an operation that failed left it alone, and is open where it did not', () => {
    expect(wanted([phase, failedPhase])).toEqual({ must: new Set(['a']), may: new Set() });
    expect(wanted([failedPhase], [[1_000, start('b', 8)]])).toEqual({ must: new Set(['b']), may: new Set() });
    const came = wanted([phase, failedPhase], [[100_500, start('b', 8)]]);
    expect(came).toEqual({ must: new Set(['a']), may: new Set(['b']) });
  });
});
