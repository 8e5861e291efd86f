import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { Gates, type Use } from '../../src/agent/gates.js';

const never = new AbortController().signal;
const A = 'model/a';

const used = (use: Use | null): Use => {
  if (use === null) throw new Error('the gate is closed');
  return use;
};

describe('a gate (law 10)', () => {
  it('counts uses, and lets none begin while it is closed (pain 1)', () => {
    const gates = new Gates();
    const use = used(gates.use(A));
    expect(gates.uses(A)).toBe(1);
    gates.close(A);
    expect(gates.isClosed(A)).toBe(true);
    expect(gates.use(A)).toBeNull();
    expect(gates.use('model/b')).not.toBeNull();
    use.end();
    use.end();
    expect(gates.uses(A)).toBe(0);
    gates.open(A);
    expect(gates.use(A)).not.toBeNull();
  });

  it('is drained at once when nobody uses it', async () => {
    expect(await new Gates().drain(A, 60_000, never)).toBe(0);
  });

  it('is drained when the last request has ended', async () => {
    const gates = new Gates();
    const [one, two] = [used(gates.use(A)), used(gates.use(A))];
    gates.close(A);
    let drained = false;
    const draining = gates.drain(A, 60_000, never).then((cut) => {
      drained = true;
      return cut;
    });
    one.end();
    await new Promise(setImmediate);
    expect(drained).toBe(false);
    two.end();
    expect(await draining).toBe(0);
    expect(two.signal.aborted).toBe(false);
  });

  it('cuts off what outlasts the grace, and says why', async () => {
    const gates = new Gates();
    const use = used(gates.use(A));
    use.signal.addEventListener('abort', () => use.end());
    gates.close(A);
    expect(await gates.drain(A, 10, never)).toBe(1);
    expect(use.signal.reason).toMatchObject({ message: expect.stringContaining('grace') });
  });

  it('waits for what was cut off, but not after the attempt is over', async () => {
    const gates = new Gates();
    const deaf = used(gates.use(A));
    gates.close(A);
    const over = new AbortController();
    const draining = gates.drain(A, 1, over.signal);
    const cutOff = new Promise((resolve) => deaf.signal.addEventListener('abort', resolve));
    await cutOff;
    over.abort(new Error('the time is up'));
    await expect(draining).rejects.toThrow('the time is up');
    expect(gates.uses(A)).toBe(1);
  });

  it('is not drained by an attempt that is over already', async () => {
    const gates = new Gates();
    const use = used(gates.use(A));
    await expect(gates.drain(A, 1_000, AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
    expect(use.signal.aborted).toBe(false);
  });
});

test('no use begins between close and open, and a drained gate has none', async () => {
  const move = fc.constantFrom(
    'use' as const,
    'use' as const,
    'end' as const,
    'close' as const,
    'open' as const,
    'drain' as const,
  );
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 40 }), async (moves) => {
      const gates = new Gates();
      const inUse: Use[] = [];
      let closed = false;
      for (const one of moves) {
        if (one === 'use') {
          const use = gates.use(A);
          expect(use === null).toBe(closed);
          if (use) inUse.push(use);
        } else if (one === 'end') inUse.shift()?.end();
        else if (one === 'close') {
          gates.close(A);
          closed = true;
        } else if (one === 'open') {
          gates.open(A);
          closed = false;
        } else if (closed) {
          for (const use of inUse) use.signal.addEventListener('abort', () => use.end(), { once: true });
          const before = inUse.splice(0).length;
          expect(await gates.drain(A, 0, never)).toBe(before);
          expect(gates.uses(A)).toBe(0);
        }
        expect(gates.uses(A)).toBe(inUse.length);
      }
    }),
    { numRuns: 200 },
  );
});
