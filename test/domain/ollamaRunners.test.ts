import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { withRunnerOf } from '../../src/domain/ollamaRunners.js';

/** What is known after models have answered, one after the other. */
const after = (...answers: [tenant: string, listed: string[], runners: number[]][]): Record<string, number> =>
  Object.fromEntries(
    answers.reduce<ReadonlyMap<string, number>>(
      (known, [tenant, listed, runners]) => withRunnerOf(tenant, known, listed, runners),
      new Map(),
    ),
  );

describe("a model's runner", () => {
  it('is the one that came with it, also when it is on two GPUs', () => {
    expect(after(['a', ['a'], [1]], ['b', ['a', 'b'], [1, 2, 2]])).toEqual({ a: 1, b: 2 });
  });

  it('is not known while it could be that of another one, or is not listed yet', () => {
    expect(after(['a', ['a', 'b'], [1]])).toEqual({});
    expect(after(['a', ['a'], [1, 2]])).toEqual({});
    expect(after(['a', ['a'], []])).toEqual({});
  });

  it('is its own beside one that has crashed and is listed still', () => {
    expect(after(['a', ['a'], [1]], ['b', ['a', 'b'], [2]])).toEqual({ a: 1, b: 2 });
  });

  it('stays known when it answers again beside one that is not known', () => {
    expect(after(['a', ['a'], [1]], ['a', ['a', 'b'], [1, 2]])).toEqual({ a: 1 });
  });

  it('is another one when it was loaded anew', () => {
    expect(after(['a', ['a'], [1]], ['b', ['a', 'b'], [1, 2]], ['a', ['a', 'b'], [2, 3]])).toEqual({ a: 3, b: 2 });
  });
});

test('no runner is that of two models, and each is one that was listed', () => {
  const answer = fc.record({
    tenant: fc.constantFrom('a', 'b', 'c'),
    others: fc.subarray(['a', 'b', 'c']),
    runners: fc.array(fc.integer({ min: 1, max: 4 })),
  });
  fc.assert(
    fc.property(fc.array(answer, { minLength: 1, maxLength: 8 }), (answers) => {
      const known = after(
        ...answers.map(({ tenant, others, runners }): [string, string[], number[]] => [
          tenant,
          [...new Set([tenant, ...others])],
          runners,
        ]),
      );
      expect(new Set(Object.values(known)).size).toBe(Object.keys(known).length);
      for (const pid of Object.values(known)) expect(answers.some(({ runners }) => runners.includes(pid))).toBe(true);
    }),
  );
});
