import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { followRunners, type ListedOnGpu } from '../../src/domain/ollamaRunners.js';

const proven = (...ids: string[]): ListedOnGpu[] => ids.map((id) => ({ id, proven: true }));
const coming = (id: string): ListedOnGpu => ({ id, proven: false });
/** What is known after looks one after the other. */
const after = (...looks: [ListedOnGpu[], number[]][]): Record<string, number> =>
  Object.fromEntries(
    looks.reduce<ReadonlyMap<string, number>>(
      (known, [models, runners]) => followRunners(known, models, runners),
      new Map(),
    ),
  );

describe("a model's runner", () => {
  it('is the one that came with it', () => {
    expect(after([proven('a'), [1]], [proven('a', 'b'), [1, 2]])).toEqual({ a: 1, b: 2 });
  });

  it('is not known while it could be that of one that loads, or of two', () => {
    expect(after([[...proven('a'), coming('b')], [1]])).toEqual({});
    expect(after([proven('a', 'b'), [1, 2]])).toEqual({});
    expect(after([proven('a'), [1, 2]])).toEqual({});
  });

  it('is remembered when it has crashed while its model is listed, and forgotten with it', () => {
    const crashed: [ListedOnGpu[], number[]] = [proven('a'), []];
    expect(after([proven('a'), [1]], crashed)).toEqual({ a: 1 });
    expect(after([proven('a'), [1]], crashed, [proven('a', 'b'), [2]])).toEqual({ a: 1, b: 2 });
    expect(after([proven('a'), [1]], crashed, [[], []])).toEqual({});
  });

  it('is another one when the model was loaded anew', () => {
    expect(after([proven('a'), [1]], [proven('a', 'b'), [1, 2]], [proven('a', 'b'), [2, 3]])).toEqual({ a: 3, b: 2 });
    expect(after([proven('a'), [1]], [[coming('a')], [2]], [proven('a'), [2]])).toEqual({ a: 2 });
  });
});

test('no runner is that of two models, and none of a model that is not listed', () => {
  const look = fc.tuple(
    fc.uniqueArray(fc.record({ id: fc.constantFrom('a', 'b', 'c'), proven: fc.boolean() }), {
      selector: ({ id }) => id,
    }),
    fc.uniqueArray(fc.integer({ min: 1, max: 4 })),
  );
  fc.assert(
    fc.property(fc.array(look, { minLength: 1, maxLength: 8 }), (looks) => {
      const known = after(...looks);
      expect(new Set(Object.values(known)).size).toBe(Object.keys(known).length);
      const listed = looks.at(-1)?.[0].map(({ id }) => id);
      for (const id of Object.keys(known)) expect(listed).toContain(id);
    }),
  );
});
