import { describe, expect, it } from 'vitest';
import { evidence, run } from './doctored.js';
import { inTheirOrder, newestSwitchWins } from './order.js';

const holder = run([1, 1, 5]);
const early = run([2, 6, 7], { workflowId: 'mode/h/early', runId: 'run-2' });
const late = run([3, 8, 9], { workflowId: 'mode/h/late', runId: 'run-3' });
const swap = { grantedMs: 5_500, releasedMs: 5_800 };

describe('the order of turns', () => {
  it('is that of arrival, and priority goes before it', () => {
    expect(inTheirOrder({ runs: [holder, early, late] })).toEqual([]);
    expect(inTheirOrder({ runs: [holder, early, { ...late, ...swap, priority: 80 }] })).toEqual([]);
  });

  it('is not kept where one overtakes, or where priority does not count', () => {
    expect(inTheirOrder({ runs: [holder, early, { ...late, ...swap }] })).toEqual([
      'M11: mode/h/late (priority 50) had its turn before mode/h/early (priority 50)',
    ]);
    expect(inTheirOrder({ runs: [holder, early, { ...late, priority: 80 }] })).toEqual([
      'M11: mode/h/early (priority 50) had its turn before mode/h/late (priority 80)',
    ]);
  });

  it('does not count who came too late, or has given up', () => {
    const overtaken = (change: object) =>
      inTheirOrder({ runs: [holder, { ...early, ...change }, { ...late, ...swap }] });
    expect(overtaken({ askedMs: 5_200 })).toEqual([]);
    expect(overtaken({ gaveUpMs: 4_000 })).toEqual([]);
  });
});

describe('the newest switch', () => {
  const first = run([1, 1, 2]);
  const to = (mode: string, one = first) => ({ ...one, goal: { kind: 'mode' as const, mode } });
  const judged = (mode: string, runs: (typeof first)[]) => newestSwitchWins(evidence({ runs, mode }));

  it('says where the host is', () => {
    expect(judged('autopilot', [to('recording'), to('autopilot', late)])).toEqual([]);
    expect(judged('recording', [to('recording'), to('autopilot', late)])).toEqual([
      'M1: the mode is recording, the newest switch went to autopilot',
    ]);
    expect(judged('recording', [])).toEqual(['M1: the mode is recording, the newest switch went to idle']);
  });

  it('is superseded by none that is older, and none that is older goes after it', () => {
    const superseded = { ...to('autopilot', late), outcome: { status: 'superseded' } as typeof late.outcome };
    expect(judged('recording', [to('recording'), superseded])).toEqual([
      'M11: mode/h/late was superseded, and no switch was started after it',
    ]);
    expect(judged('recording', [{ ...to('recording'), grantedMs: 10_000 }, superseded])).toEqual(
      expect.arrayContaining([expect.stringMatching(/M11: mode\/h\/1 was carried out after mode\/h\/late had come/)]),
    );
  });
});
