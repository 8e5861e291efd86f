import { describe, expect, it } from 'vitest';
import { driftLevel } from '../../src/domain/drift.js';

describe('what a tenant takes beside what is declared of it', () => {
  it.each([
    [20_480, 20_480, 0],
    [20_480, 4_000, 0],
    // 15 % of it are 3,072 MB.
    [20_480, 23_552, 0],
    [20_480, 23_553, 1],
    // Of little, 15 % are not worth a word.
    [500, 1_000, 0],
    [500, 1_001, 1],
    [500, 1_499, 1],
    [500, 1_500, 2],
    [500, 2_499, 2],
    [500, 2_500, 3],
  ])('declared %d MB, seen %d MB: level %d', (declaredMb, seenMb, level) => {
    expect(driftLevel(declaredMb, seenMb)).toBe(level);
  });
});
