import { describe, expect, it } from 'vitest';
import { proveReclaimed, type ReclaimCase, type ReclaimSample, remainingMb } from '../../src/domain/reclaimProof.js';

/** 10,500 MB of ours (pid 7) beside a desktop of 800 MB that is on no list. */
const reclaim = (change: Partial<ReclaimCase> = {}): ReclaimCase => ({
  gpu: 'g0',
  beforeMb: 11_300,
  heldMb: 10_500,
  processesBefore: new Map([[7, 10_500]]),
  ownPids: [7],
  pidsOfOthers: [],
  others: [],
  ...change,
});
const sample = (usedMb: number | null, processes: [number, number | null][] | null = []): ReclaimSample => ({
  usedMb,
  processes: processes && new Map(processes),
});
const times = (count: number, one: ReclaimSample): ReclaimSample[] => Array.from({ length: count }, () => one);

describe('memory is proven to be back', () => {
  it('when it dropped by what was held', () => {
    expect(proveReclaimed(reclaim(), [sample(800)])).toBe('used memory dropped by 10500 MB');
  });

  it('when a stranger grew meanwhile: 9 GB of a game are not ours', () => {
    expect(proveReclaimed(reclaim(), [sample(9_800, [[50, 9_000]])])).toBe('used memory dropped by 10500 MB');
  });

  it('when there is no list of processes', () => {
    expect(proveReclaimed(reclaim({ processesBefore: null }), [sample(800, null)])).not.toBeNull();
  });

  it('when a container hides our process, once the list can no longer be late', () => {
    const hidden = reclaim({ processesBefore: new Map(), ownPids: [] });
    expect(proveReclaimed(hidden, times(3, sample(800)))).toBeNull();
    expect(proveReclaimed(hidden, times(4, sample(800)))).not.toBeNull();
  });

  it('when its process has no figure and is gone', () => {
    const noFigure = reclaim({ processesBefore: new Map([[7, null]]) });
    expect(proveReclaimed(noFigure, [sample(800, [[7, null]])])).toBeNull();
    expect(proveReclaimed(noFigure, [sample(800)])).not.toBeNull();
  });

  it('when one of two processes of the same size has gone, either of which may be ours', () => {
    const two = reclaim({
      beforeMb: 21_600,
      ownPids: [7, 8],
      processesBefore: new Map([
        [7, 10_500],
        [8, 10_300],
      ]),
    });
    expect(proveReclaimed(two, [sample(11_300, [[7, 10_500]])])).not.toBeNull();
    expect(proveReclaimed(two, [sample(21_600, [...(two.processesBefore ?? [])])])).toBeNull();
  });

  it('when the list still showed a stranger whose memory was back already', () => {
    const late = reclaim({
      processesBefore: new Map([
        [7, 10_500],
        [50, 9_000],
      ]),
    });
    expect(proveReclaimed(late, [sample(800)])).toBe('used memory dropped by 10500 MB');
    expect(proveReclaimed(late, [sample(11_300)])).toBeNull();
  });

  describe('when nobody could tell how much it held', () => {
    const unknown = reclaim({ heldMb: 20_000, atMost: true, processesBefore: null });

    it('by a drop of all that it may have held', () => {
      expect(proveReclaimed({ ...unknown, beforeMb: 20_800 }, [sample(800, null)])).toContain('dropped by 20000 MB');
    });

    it('by a drop, once nothing moves any more', () => {
      expect(proveReclaimed(unknown, times(4, sample(800, null)))).toBeNull();
      expect(proveReclaimed(unknown, times(5, sample(800, null)))).toContain('10500 MB came back');
    });

    it('and not while nothing has come back', () => {
      expect(proveReclaimed(unknown, times(9, sample(11_290, null)))).toBeNull();
      const noFigure = { ...unknown, processesBefore: new Map([[7, null]]) };
      expect(proveReclaimed(noFigure, times(9, sample(800, [[7, null]])))).toBeNull();
      expect(proveReclaimed(noFigure, times(9, sample(11_300)))).toBeNull();
      expect(proveReclaimed(noFigure, times(5, sample(800)))).not.toBeNull();
    });
  });

  it('by stable memory when the holder had crashed before (pain 3)', () => {
    const crashed = reclaim({ beforeMb: 800, processesBefore: new Map() });
    expect(proveReclaimed(crashed, times(4, sample(800)))).toBeNull();
    expect(proveReclaimed(crashed, times(5, sample(810)))).toContain('was gone before');
    // The list is read beside the figures, and may show it a little longer.
    const late = reclaim({ beforeMb: 800 });
    expect(proveReclaimed(late, times(5, sample(800, [[7, 10_500]])))).toBeNull();
    expect(proveReclaimed(late, times(5, sample(800)))).toContain('was gone before');
    // Without a list it may have been a model that was still loading, whose memory is stuck.
    const unlisted = reclaim({ beforeMb: 2_800, processesBefore: null, ownPids: [] });
    expect(proveReclaimed(unlisted, times(9, sample(2_800)))).toBeNull();
    // A stranger that the list shows still says nothing about ours.
    const beside = reclaim({
      beforeMb: 11_300,
      processesBefore: new Map([
        [7, 10_500],
        [50, 12_000],
      ]),
    });
    expect(proveReclaimed(beside, times(9, sample(11_300)))).toBeNull();
    const falling = [900, 850, 800, 750, 700].map((mb) => sample(mb));
    expect(proveReclaimed(crashed, falling)).toBeNull();
  });

  describe('when the holder crashed before, beside another model of ours (pain 3)', () => {
    const beside = (change: Partial<ReclaimCase>) =>
      reclaim({ beforeMb: 12_300, heldMb: 6_300, ownPids: [], ...change });

    it('that is larger: its process is known, and explains what is used', () => {
      const larger = beside({ processesBefore: new Map([[8, 11_500]]), pidsOfOthers: [8] });
      expect(proveReclaimed(larger, times(5, sample(12_300, [[8, 11_500]])))).toContain('was gone before');
      // Nobody knows whose process it is.
      const unknown = beside({ processesBefore: new Map([[8, 11_500]]) });
      expect(proveReclaimed(unknown, times(9, sample(12_300, [[8, 11_500]])))).toBeNull();
    });

    it('of its size: of two runners that are alike, nobody knows whose the last one is', () => {
      const alike = beside({ beforeMb: 7_300, processesBefore: new Map([[8, 6_500]]), pidsOfOthers: [8] });
      expect(proveReclaimed(alike, times(9, sample(7_300, [[8, 6_500]])))).toBeNull();
    });

    it('that is larger, while its own memory is stuck and on no list', () => {
      const stuck = beside({ beforeMb: 18_600, processesBefore: new Map([[8, 11_500]]), pidsOfOthers: [8] });
      expect(proveReclaimed(stuck, times(9, sample(18_600, [[8, 11_500]])))).toBeNull();
    });
  });

  // The reading before may be of any moment of the crash; the list beside it may be older or newer.
  describe.each([
    ['known', [7]],
    ['not known', []],
  ])('when the holder crashed before, and a part of it was back by then: its process is %s', (_, ownPids) => {
    it.each([
      ['the list is late', new Map([[7, 10_500]])],
      ['the list is not late', new Map()],
    ])('%s', (_name, processesBefore) => {
      for (let heldMb = 0; heldMb <= 10_500; heldMb += 250) {
        const crashing = reclaim({ beforeMb: 800 + heldMb, processesBefore, ownPids });
        expect(proveReclaimed(crashing, times(9, sample(800))), `${heldMb} MB were still held`).not.toBeNull();
        // All that was there is there still: nothing is proven, unless next to nothing was.
        const stuck = times(9, sample(800 + heldMb));
        if (heldMb > 10_500 * 0.75) expect(proveReclaimed(crashing, stuck), `${heldMb} MB are stuck`).toBeNull();
      }
    });
  });
});

describe('memory is not proven to be back', () => {
  it('without a sample or a reading', () => {
    expect(proveReclaimed(reclaim(), [])).toBeNull();
    expect(proveReclaimed(reclaim(), [sample(null)])).toBeNull();
    expect(proveReclaimed(reclaim({ beforeMb: null }), [sample(0)])).toBeNull();
  });

  it('by the end of a game of 12 GB', () => {
    const beside = reclaim({
      beforeMb: 23_300,
      processesBefore: new Map([
        [7, 10_500],
        [50, 12_000],
      ]),
    });
    expect(proveReclaimed(beside, [sample(11_300, [[7, 10_500]])])).toBeNull();
    // The list is a tick late: the game is on it still.
    expect(proveReclaimed(beside, [sample(11_300, [...(beside.processesBefore ?? [])])])).toBeNull();
  });

  it('by a figure that was missing before and is there now', () => {
    const noFigure = reclaim({
      beforeMb: 20_300,
      processesBefore: new Map([
        [7, 10_500],
        [50, null],
      ]),
    });
    const shown: [number, number | null][] = [
      [7, 10_500],
      [50, 9_000],
    ];
    expect(proveReclaimed(noFigure, times(6, sample(20_300, shown)))).toBeNull();
  });

  it('as gone before, when a process on the list could be it and nobody knows', () => {
    const unnamed = reclaim({ ownPids: [] });
    expect(proveReclaimed(unnamed, times(6, sample(11_300, [[7, 10_500]])))).toBeNull();
  });

  it('as gone before, when a container hides processes', () => {
    const hidden = reclaim({ processesBefore: new Map(), ownPids: [] });
    expect(proveReclaimed(hidden, times(6, sample(11_300)))).toBeNull();
  });
});

describe('beside another reclaim on the same GPU', () => {
  const OTHER = { tenant: 'service/b', pids: [8], mb: 8_452 };
  const two = new Map([
    [7, 4_096],
    [8, 8_452],
  ]);
  const ours = (change: Partial<ReclaimCase> = {}) =>
    reclaim({ beforeMb: 13_348, heldMb: 4_096, processesBefore: two, others: [OTHER], ...change });

  it('each counts its own: the list shows both ends', () => {
    expect(proveReclaimed(ours(), [sample(800)])).toBe('used memory dropped by 4096 MB');
  });

  it('each counts its own: the list is late, and still shows the other one', () => {
    expect(proveReclaimed(ours(), [sample(800, [[8, 8_452]])])).toBe('used memory dropped by 4096 MB');
  });

  it('each counts its own: the list before claimed more than was used', () => {
    expect(proveReclaimed(ours({ beforeMb: 12_500 }), [sample(0)])).toBe('used memory dropped by 4096 MB');
  });

  it('the other one that has not ended is not waited for, once the list cannot be late any more', () => {
    const without = sample(9_252, [[8, 8_452]]);
    expect(proveReclaimed(ours(), times(3, without))).toBeNull();
    expect(proveReclaimed(ours(), times(4, without))).toBe('used memory dropped by 4096 MB');
  });

  it('the memory that the other one gave back proves nothing: ours is stuck, and the list is late', () => {
    const late = sample(4_896, [[8, 8_452]]);
    expect(proveReclaimed(ours(), [...times(3, late), ...times(10, sample(4_896))])).toBeNull();
  });

  it.each([
    ['hidden in containers', new Map(), [] as number[]],
    ['without a list', null, [7]],
  ])('%s, neither is proven by the memory of the other', (_how, processesBefore, ownPids) => {
    const hidden = ours({ processesBefore, ownPids, others: [{ ...OTHER, pids: [] }] });
    const list: [number, number][] | null = processesBefore && [];
    expect(proveReclaimed(hidden, times(10, sample(4_896, list)))).toBeNull();
    expect(proveReclaimed(hidden, times(10, sample(800, list)))).toBe('used memory dropped by 4096 MB');
  });

  it('what remains is what others may still count as given back', () => {
    expect(remainingMb(ours(), sample(13_348, [...two]))).toBe(4_096);
    expect(remainingMb(ours(), sample(800))).toBe(0);
    expect(
      remainingMb(
        ours({ others: [] }),
        sample(12_348, [
          [7, 3_096],
          [8, 8_452],
        ]),
      ),
    ).toBe(3_096);
    expect(remainingMb(ours(), sample(null))).toBe(4_096);
  });
});
