import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { checkEmbeddings } from '../../../src/adapters/clip/probe.js';

const DIMENSION = 8;
const expected = { dimension: DIMENSION, tolerance: 0.01 };

const unit = (vector: number[]): number[] => {
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
};
const vectors = fc
  .array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: DIMENSION, maxLength: DIMENSION })
  .filter((vector) => Math.hypot(...vector) > 0.1)
  .map(unit);
const some = fc.array(vectors, { minLength: 1, maxLength: 4 });

/** Rotates a unit vector by an angle, towards an axis that it does not lie on. */
function rotate(vector: number[], angle: number): number[] {
  const axis = vector.findIndex((value) => Math.abs(value) < 0.9);
  const along = vector[axis] ?? 0;
  const across = unit(vector.map((value, i) => (i === axis ? 1 : 0) - along * value));
  return vector.map((value, i) => value * Math.cos(angle) + (across[i] ?? 0) * Math.sin(angle));
}

describe('the check of embeddings (M8)', () => {
  it('accepts unit vectors, alone and beside equal ones', () => {
    fc.assert(
      fc.property(some, (list) => {
        expect(checkEmbeddings(list, null, expected)).toEqual({ ok: true });
        expect(checkEmbeddings(list, list, expected)).toEqual({ ok: true });
      }),
    );
  });

  it('refuses any flaw in any vector, and says where', () => {
    const flaws: [name: string, (vector: number[]) => number[], RegExp][] = [
      ['short', (v) => v.slice(1), /dimension 7 instead of 8/],
      ['long', (v) => [...v, 0], /dimension 9 instead of 8/],
      ['NaN', (v) => [Number.NaN, ...v.slice(1)], /not finite/],
      ['infinite', (v) => [Number.POSITIVE_INFINITY, ...v.slice(1)], /not finite/],
      ['zero', (v) => v.map(() => 0), /norm 0.0000/],
      ['scaled', (v) => v.map((value) => value * 1.01), /norm 1.0100/],
    ];
    fc.assert(
      fc.property(some, fc.nat(), fc.constantFrom(...flaws), (list, at, [, spoil, words]) => {
        const index = at % list.length;
        const spoilt = list.map((vector, i) => (i === index ? spoil(vector) : vector));
        const verdict = checkEmbeddings(spoilt, null, expected);
        expect(verdict).toMatchObject({ ok: false, reason: expect.stringMatching(words) as string });
        expect(verdict).toMatchObject({ reason: expect.stringContaining(`embedding ${index}:`) as string });
      }),
    );
  });

  it('agrees with the other device up to the tolerance and no further', () => {
    const limit = Math.acos(1 - expected.tolerance);
    fc.assert(
      fc.property(vectors, fc.double({ min: 0, max: Math.PI, noNaN: true }), (vector, angle) => {
        fc.pre(Math.abs(angle - limit) > 1e-6);
        expect(checkEmbeddings([rotate(vector, angle)], [vector], expected).ok).toBe(angle < limit);
      }),
    );
  });

  it('refuses nothing at all, another count, and a reference that is none', () => {
    const one = unit([1, 1, 1, 1, 1, 1, 1, 1]);
    expect(checkEmbeddings([], null, expected).ok).toBe(false);
    expect(checkEmbeddings([one], [one, one], expected).ok).toBe(false);
    expect(checkEmbeddings([one], [one.map(() => Number.NaN)], expected).ok).toBe(false);
    expect(checkEmbeddings([one], [[1, 0]], expected).ok).toBe(false);
  });
});
