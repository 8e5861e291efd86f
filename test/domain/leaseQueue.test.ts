import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { joined, left, mayMakeRoom } from '../../src/domain/leaseQueue.js';

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

describe('what the line is told of', () => {
  const told = (kind: Parameters<typeof mayMakeRoom>[0]['kind'], fell?: boolean, agoMs = 3_600_000) =>
    mayMakeRoom({ kind, ...(fell === undefined ? {} : { fell }) }, agoMs);

  it('is memory that fell, or may have, at most every 30 s', () => {
    for (const kind of ['vram-changed', 'foreign-process'] as const) {
      expect([told(kind, true), told(kind), told(kind, false)]).toEqual([true, true, false]);
      expect([told(kind, true, 29_999), told(kind, true, 30_000)]).toEqual([false, true]);
    }
  });

  it('is each tenant that is gone and each GPU that is back, and nothing that frees nothing', () => {
    for (const kind of ['tenant-left', 'tenant-died', 'gpu-back'] as const) expect(told(kind, undefined, 0)).toBe(true);
    for (const kind of ['gpu-lost', 'driver-away', 'driver-back', 'tenant-appeared'] as const) {
      expect(told(kind)).toBe(false);
    }
  });
});
