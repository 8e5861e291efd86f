import { describe, expect, it } from 'vitest';
import {
  evidence,
  GPU,
  gone,
  loadEnd,
  loadStart,
  recordOf,
  run,
  start,
  step,
  took,
  unloadStart,
  VLM,
} from './doctored.js';
import { attemptsAreCounted, attemptsKeepTheirTime, exampleKeepsItsTime, switchesKeepTheirTime } from './limits.js';

/** In these records an event comes every second. */
const tight = { ...evidence({}).settings, loadMs: 500, unloadMs: 500 };

describe('time limits', () => {
  it('are kept by an attempt whose load or unload ends in time', () => {
    const load = { record: recordOf(start, loadStart(), loadEnd()), windows: [step(2, 4)] };
    expect(attemptsKeepTheirTime(evidence(load))).toEqual([]);
  });

  it('are not kept by a load that ends late, nor by an unload whose memory comes late', () => {
    const load = { record: recordOf(start, loadStart(), took(), took(), loadEnd()), windows: [step(2, 6)] };
    expect(attemptsKeepTheirTime(evidence({ ...load, settings: tight, busy: 4 }))).toEqual([]);
    expect(attemptsKeepTheirTime(evidence({ ...load, settings: tight }))).toEqual([
      `M4: the load of ${VLM} was loaded after 3000 ms of an attempt (load model/${VLM} of mode/h/1)`,
    ]);
    const freed = took({ kind: 'freed', holderMb: 0, usedMb: 0 });
    const unload = {
      record: recordOf(start, loadStart(), loadEnd(), unloadStart(), gone(), freed),
      windows: [step(4, 7, { kind: 'unload' })],
    };
    expect(attemptsKeepTheirTime(evidence({ ...unload, settings: tight }))).toEqual([
      expect.stringMatching(/^M4: .* was freed after 2000 ms/),
    ]);
  });

  it('count the attempts, but not those that are none', () => {
    const { settings } = evidence({});
    const failed = (failure: string) => [1, 2, 3, 4, 5].map((at) => step(at, at + 1, { ended: 'failed', failure }));
    expect(attemptsAreCounted({ windows: failed('PremiseGone'), settings })).toEqual([]);
    expect(attemptsAreCounted({ windows: failed('LoadTimeout'), settings })).toEqual([
      expect.stringMatching(/^M19: 5 attempts failed/),
    ]);
  });

  it('hold for a switch as a whole', () => {
    const goal = { kind: 'mode' as const, mode: 'autopilot' };
    const switched = (second: number) => ({
      runs: [run([1, 1, second], { goal })],
      windows: [step(2, second, { kind: 'unload' as const, devices: [GPU] })],
    });
    expect(switchesKeepTheirTime(evidence(switched(5)))).toEqual([]);
    expect(switchesKeepTheirTime(evidence(switched(10)))).toEqual(['M4: mode/h/1 took 9000 ms to unload the VLM']);
    expect(switchesKeepTheirTime(evidence({ ...switched(10), calm: false }))).toEqual([]);
  });

  it('hold for an example, longer only where the machine has more to do than it can', () => {
    expect(exampleKeepsItsTime(30_000, 1)).toEqual([]);
    expect(exampleKeepsItsTime(30_001, 1)).toEqual(['M20: the example took 30001 ms']);
    expect(exampleKeepsItsTime(50_000, 2)).toEqual([]);
  });
});
