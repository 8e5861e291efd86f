import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { toRectangle } from '../../../../src/adapters/clip/child/tokens.js';

const START = 1;
const END = 2;
const PAD = 0;
const texts = fc.array(
  fc.array(fc.integer({ min: 3, max: 9 }), { maxLength: 12 }).map((words) => [START, ...words, END]),
  { minLength: 1, maxLength: 5 },
);

describe('the rectangle of tokens', () => {
  it('keeps short texts whole, cuts long ones, and always keeps the end token last', () => {
    fc.assert(
      fc.property(texts, fc.integer({ min: 2, max: 10 }), (lists, maxLength) => {
        const { ids, mask, dims } = toRectangle(lists, { maxLength, padId: PAD });
        const [rows, length] = dims;
        expect(rows).toBe(lists.length);
        expect(length).toBe(Math.min(maxLength, Math.max(...lists.map((tokens) => tokens.length))));
        lists.forEach((tokens, row) => {
          const line = Array.from(ids.subarray(row * length, (row + 1) * length), Number);
          const seen = Number(mask.slice(row * length, (row + 1) * length).reduce((sum, bit) => sum + bit, 0n));
          expect(seen).toBe(Math.min(tokens.length, maxLength));
          expect(line.slice(0, seen - 1)).toEqual(tokens.slice(0, seen - 1));
          expect(line[seen - 1]).toBe(END);
          expect(line.slice(seen).every((token) => token === PAD)).toBe(true);
        });
      }),
    );
  });
});
