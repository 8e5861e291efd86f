import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Listed, proveReclaimed, type ReclaimCase, type ReclaimSample } from '../../src/domain/reclaimProof.js';

const RUNS = { numRuns: 600 };
const OURS = 7;

interface Stranger {
  pid: number;
  /** What it has at each moment, MB; 0: it does not run. */
  mb: number[];
  /** Its figure is `[N/A]`; then nobody can see it change, so it does not. */
  noFigure: boolean;
  /** It is known to be in another tenant of ours. */
  known: boolean;
}

interface World {
  heldMb: number;
  desktopMb: number;
  strangers: Stranger[];
  moments: number;
  list: 'shown' | 'hides ours' | 'none' | 'shown, but nobody knows which is ours';
}

const MOMENTS = 8;
const amount = fc.oneof(fc.constant(0), fc.integer({ min: 100, max: 14_000 }));

const stranger = (pid: number): fc.Arbitrary<Stranger> =>
  fc.record({
    pid: fc.constant(pid),
    mb: fc.array(amount, { minLength: MOMENTS + 1, maxLength: MOMENTS + 1 }),
    noFigure: fc.boolean(),
    known: fc.boolean(),
  });

const world = (lists: World['list'][]): fc.Arbitrary<World> =>
  fc.record({
    heldMb: fc.integer({ min: 300, max: 20_000 }),
    desktopMb: fc.integer({ min: 0, max: 1500 }),
    strangers: fc.tuple(stranger(100), stranger(101), stranger(102)).chain((all) => fc.subarray(all)),
    moments: fc.integer({ min: 1, max: MOMENTS }),
    list: fc.constantFrom(...lists),
  });

const mbOf = (one: Stranger, moment: number): number => (one.noFigure ? (one.mb[0] ?? 0) : (one.mb[moment] ?? 0));

/** What the driver shows at a moment while `oursMb` of ours are there. */
function look({ strangers, desktopMb, list }: World, moment: number, oursMb: number): ReclaimSample {
  const used = strangers.reduce((sum, one) => sum + mbOf(one, moment), desktopMb + oursMb);
  if (list === 'none') return { usedMb: used, processes: null };
  const processes: Listed = new Map();
  for (const one of strangers) {
    const mb = mbOf(one, moment);
    if (mb > 0) processes.set(one.pid, one.noFigure ? null : mb);
  }
  if (oursMb > 0 && list !== 'hides ours') processes.set(OURS, oursMb);
  return { usedMb: used, processes };
}

function caseOf(w: World): ReclaimCase {
  const before = look(w, 0, w.heldMb);
  const ownPids = w.list === 'shown' ? [OURS] : [];
  return {
    gpu: 'g0',
    beforeMb: before.usedMb,
    heldMb: w.heldMb,
    processesBefore: before.processes,
    ownPids,
    pidsOfOthers: w.strangers.filter(({ known }) => known).map(({ pid }) => pid),
    others: [],
  };
}

/** Strangers that nobody can see do not move: such a change cannot be told from ours. */
const still = (w: World): World => ({
  ...w,
  strangers: w.strangers.map((one) => ({ ...one, mb: one.mb.map(() => one.mb[0] ?? 0) })),
});

const moments = (w: World): number[] => Array.from({ length: w.moments }, (_, n) => n + 1);

describe('the proof that memory is back (law 2)', () => {
  test('is not there while ours is held, however strangers grow, shrink, come and go', () => {
    fc.assert(
      fc.property(world(['shown', 'hides ours', 'shown, but nobody knows which is ours']), (w) => {
        const samples = moments(w).map((moment) => look(w, moment, w.heldMb));
        for (const [n] of samples.entries()) expect(proveReclaimed(caseOf(w), samples.slice(0, n + 1))).toBeNull();
      }),
      RUNS,
    );
  });

  test('is not there while the list is late, and a stranger that has gone is still on it', () => {
    fc.assert(
      fc.property(world(['shown', 'hides ours']), fc.integer({ min: 1, max: 3 }), (w, lag) => {
        // The strangers go once, all together.
        const once = {
          ...w,
          strangers: w.strangers.map((one) => ({ ...one, mb: one.mb.map((mb, n) => (n === 0 ? mb : 0)) })),
        };
        const gone = moments(once).map((moment) => ({
          usedMb: look(once, moment, w.heldMb).usedMb,
          processes: look(once, Math.max(0, moment - lag), w.heldMb).processes,
        }));
        for (const [n] of gone.entries()) expect(proveReclaimed(caseOf(once), gone.slice(0, n + 1))).toBeNull();
      }),
      RUNS,
    );
  });

  test('is not there without a list either, while no stranger moves', () => {
    fc.assert(
      fc.property(world(['none']).map(still), (w) => {
        const samples = moments(w).map((moment) => look(w, moment, w.heldMb));
        expect(proveReclaimed(caseOf(w), samples)).toBeNull();
      }),
      RUNS,
    );
  });

  test('is there within four samples of the memory being back', () => {
    fc.assert(
      fc.property(world(['shown', 'hides ours']), world(['none']).map(still), (shown, none) => {
        for (const w of [shown, none]) {
          const samples = [1, 2, 3, 4].map((moment) => look(w, moment, 0));
          const proof = proveReclaimed(caseOf(w), w.list === 'hides ours' ? samples : samples.slice(0, 1));
          expect(proof).toMatch(/^used memory dropped by \d+ MB$/);
        }
      }),
      RUNS,
    );
  });

  test('is there where nobody knows the process, if only one on the list can be it', () => {
    fc.assert(
      fc.property(world(['shown, but nobody knows which is ours']), (w) => {
        fc.pre(w.strangers.every((one) => mbOf(one, 0) < w.heldMb * 0.75) && w.desktopMb < w.heldMb * 0.75);
        fc.pre(
          w.strangers.reduce((sum, one) => sum + (one.noFigure ? mbOf(one, 0) : 0), w.desktopMb) < w.heldMb * 0.75,
        );
        expect(proveReclaimed(caseOf(w), [look(w, 1, 0)])).not.toBeNull();
      }),
      RUNS,
    );
  });

  test('is there when the holder had crashed before (pain 3), as soon as the memory is stable', () => {
    fc.assert(
      fc.property(world(['shown']).map(still), (w) => {
        fc.pre(
          w.desktopMb + w.strangers.reduce((sum, one) => sum + (one.noFigure ? mbOf(one, 0) : 0), 0) < w.heldMb * 0.75,
        );
        const crashed = { ...caseOf(w), beforeMb: look(w, 0, 0).usedMb, processesBefore: look(w, 0, 0).processes };
        const samples = [1, 2, 3, 4, 5].map((moment) => look(w, moment, 0));
        expect(proveReclaimed(crashed, samples.slice(0, 4))).toBeNull();
        expect(proveReclaimed(crashed, samples)).toContain('gone before');
      }),
      RUNS,
    );
  });

  test('of two that end side by side counts to each its own, and proves neither by the other', () => {
    const OTHER = 8;
    interface Pair {
      desktopMb: number;
      ours: { mb: number; until: number };
      other: { mb: number; until: number };
      list: 'shown' | 'hidden' | 'none';
      lag: number;
    }
    const one = fc.record({ mb: fc.integer({ min: 300, max: 20_000 }), until: fc.integer({ min: 0, max: 20 }) });
    const pair: fc.Arbitrary<Pair> = fc.record({
      desktopMb: fc.integer({ min: 0, max: 1500 }),
      ours: one,
      other: one,
      list: fc.constantFrom('shown', 'hidden', 'none'),
      lag: fc.integer({ min: 0, max: 3 }),
    });
    const holds = ({ mb, until }: Pair['ours'], moment: number) => (moment <= until ? mb : 0);
    const seen = ({ desktopMb, ours, other, list, lag }: Pair, moment: number): ReclaimSample => {
      const listedAt = Math.max(0, moment - lag);
      const all: [number, number][] = [
        [OURS, holds(ours, listedAt)],
        [OTHER, holds(other, listedAt)],
      ];
      const processes = list === 'none' ? null : new Map(list === 'hidden' ? [] : all.filter(([, mb]) => mb > 0));
      return { usedMb: desktopMb + holds(ours, moment) + holds(other, moment), processes };
    };
    fc.assert(
      fc.property(pair, (p) => {
        const before = seen(p, 0);
        const pids = (pid: number) => (p.list === 'shown' ? [pid] : []);
        const reclaim: ReclaimCase = {
          gpu: 'g0',
          beforeMb: before.usedMb,
          heldMb: p.ours.mb,
          processesBefore: before.processes,
          ownPids: pids(OURS),
          pidsOfOthers: pids(8),
          others: [{ tenant: 'service/other', pids: pids(OTHER), mb: p.other.mb }],
        };
        const samples = Array.from({ length: 28 }, (_, n) => seen(p, n + 1));
        const proofs = samples.map((_, n) => proveReclaimed(reclaim, samples.slice(0, n + 1)));
        for (const [n, proof] of proofs.entries()) {
          if (n + 1 <= p.ours.until) expect(proof).toBeNull();
          if (proof !== null) expect(proof).toBe(`used memory dropped by ${p.ours.mb} MB`);
        }
        expect(proofs.at(-1)).not.toBeNull();
      }),
      RUNS,
    );
  });
});
