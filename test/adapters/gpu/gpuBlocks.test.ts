import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createGpuBlocks } from '../../../src/adapters/gpu/gpuBlocks.js';

const row = (index: number, tick = 0) => ({ reading: { uuid: `GPU-${index}`, index }, tick });
const indices = (blocks: ReturnType<typeof row>[][]) =>
  blocks.map((block) => block.map(({ reading }) => reading.index));

describe('blocks of GPU lines', () => {
  it('end with the last expected GPU, not with the next tick', () => {
    const blocks = createGpuBlocks<ReturnType<typeof row>>(['GPU-0', 'GPU-1']);
    expect(indices(blocks.add(row(0)))).toEqual([]);
    expect(indices(blocks.add(row(1)))).toEqual([[0, 1]]);
    expect(indices(blocks.add(row(0)))).toEqual([]);
  });

  it('end with the index that restarts when one is missing, and at once from then on', () => {
    const blocks = createGpuBlocks<ReturnType<typeof row>>(['GPU-0', 'GPU-1']);
    expect(indices(blocks.add(row(0)))).toEqual([]);
    expect(indices(blocks.add(row(0)))).toEqual([[0], [0]]);
    expect(indices(blocks.add(row(0)))).toEqual([[0]]);
  });

  it('hold one tick each, whatever GPUs come and go', () => {
    const sets = fc.array(fc.uniqueArray(fc.nat({ max: 5 }), { minLength: 1 }), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(sets, fc.uniqueArray(fc.nat({ max: 5 })), (ticks, expected) => {
        const blocks = createGpuBlocks<ReturnType<typeof row>>(expected.map((index) => `GPU-${index}`));
        // The first GPU of a host is in every tick, so that a tick begins with it.
        const lines = ticks.map((set) => [...new Set([0, ...set])].sort((a, b) => a - b));
        const given = lines.flatMap((set, tick) => set.flatMap((index) => blocks.add(row(index, tick))));
        for (const block of given) expect(new Set(block.map(({ tick }) => tick)).size).toBe(1);
        for (const [tick, set] of lines.slice(0, -1).entries()) {
          const last = given.filter((block) => block[0]?.tick === tick).at(-1);
          expect(last?.map(({ reading }) => reading.index)).toEqual(set);
        }
      }),
    );
  });
});
