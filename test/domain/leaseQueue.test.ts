import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joined, left } from '../../src/domain/leaseQueue.js';

const lease = fc.record({ id: fc.constantFrom('a', 'b', 'c', 'd', 'e'), priority: fc.integer({ min: 0, max: 3 }) });

describe('the line of leases', () => {
  it('is by priority, then by arrival, and nobody is in it twice', () => {
    fc.assert(
      fc.property(fc.array(lease, { maxLength: 30 }), (arrivals) => {
        const queue = arrivals.reduce(joined, []);
        expect(new Set(queue.map(({ id }) => id)).size).toBe(queue.length);
        for (const [index, one] of queue.entries()) {
          const next = queue[index + 1];
          if (next === undefined) continue;
          expect(one.priority).toBeGreaterThanOrEqual(next.priority);
          const first = (id: string) => arrivals.findIndex((arrival) => arrival.id === id);
          if (one.priority === next.priority) expect(first(one.id)).toBeLessThan(first(next.id));
        }
      }),
    );
  });

  it('loses only the one that leaves', () => {
    const queue = [
      { id: 'a', priority: 9 },
      { id: 'b', priority: 1 },
    ];
    expect(left(queue, 'a')).toEqual([{ id: 'b', priority: 1 }]);
    expect(left(queue, 'x')).toEqual(queue);
  });

  it('is bounded', () => {
    const many = Array.from({ length: 150 }, (_, n) => ({ id: `l${n}`, priority: 5 }));
    expect(many.reduce(joined, [] as typeof many)).toHaveLength(100);
  });
});
