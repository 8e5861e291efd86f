import { describe, expect, it } from 'vitest';
import {
  holdersAt,
  peakUsed,
  type RecordEntry,
  type RecordEvent,
  usedOver,
  violations,
} from '../../src/simulator/record.js';

const GPU = 'GPU-a';

function recordOf(...events: RecordEvent[]): RecordEntry[] {
  const start: RecordEvent = { kind: 'start', preset: 'x', seed: 1, speed: 1, cards: [{ gpu: GPU, totalMb: 1000 }] };
  return [start, ...events].map((event, i) => ({ seq: i + 1, atMs: i * 10, at: '', ...event }));
}

function moved(kind: 'allocated' | 'freed', holder: string, mb: number, holderMb: number, usedMb: number): RecordEvent {
  return { kind, holder, holderKind: 'runner', name: holder, gpu: GPU, mb, holderMb, usedMb };
}

const TWO_HOLDERS = recordOf(
  moved('allocated', 'a', 400, 400, 400),
  moved('allocated', 'b', 500, 500, 900),
  moved('freed', 'a', 400, 0, 500),
);

describe('the judge', () => {
  it('sums the use of a card from its allocations', () => {
    expect(usedOver(TWO_HOLDERS).get(GPU)).toEqual([
      { atMs: 0, usedMb: 0 },
      { atMs: 10, usedMb: 400 },
      { atMs: 20, usedMb: 900 },
      { atMs: 30, usedMb: 500 },
    ]);
    expect(peakUsed(TWO_HOLDERS).get(GPU)).toBe(900);
  });

  it('says who held what at a moment', () => {
    expect(holdersAt(TWO_HOLDERS, 25).map(({ holder, mb }) => [holder, mb])).toEqual([
      ['a', 400],
      ['b', 500],
    ]);
    expect(holdersAt(TWO_HOLDERS, 30).map(({ holder }) => holder)).toEqual(['b']);
  });

  it('finds nothing wrong with a sound record', () => {
    expect(violations(TWO_HOLDERS)).toEqual([]);
  });

  it('finds a card over its total', () => {
    const record = recordOf(moved('allocated', 'a', 1001, 1001, 1001));
    expect(violations(record).map(({ kind }) => kind)).toEqual(['over-total']);
  });

  it('finds an out-of-memory, and says whose', () => {
    const oom = { kind: 'oom', holder: 'a', holderKind: 'runner', name: 'a', gpu: GPU, askedMb: 9, freeMb: 1 } as const;
    expect(violations(recordOf(oom))).toMatchObject([{ kind: 'out-of-memory', holderKind: 'runner' }]);
  });

  it('does not believe a card that says other than the sum of its holders', () => {
    const record = recordOf(moved('allocated', 'a', 400, 400, 300));
    expect(violations(record).map(({ kind }) => kind)).toEqual(['books-do-not-balance']);
  });

  it('finds memory that is freed and was never held', () => {
    const record = recordOf(moved('freed', 'a', 1, -1, -1));
    expect(violations(record).map(({ kind }) => kind)).toEqual(['books-do-not-balance']);
  });
});
