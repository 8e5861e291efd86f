/** Puts the lines of one tick together. A block is one sample of all GPUs; its lines come in index order. */
import type { GpuReading } from './reader.js';

export interface GpuBlocks<Row extends { reading: Pick<GpuReading, 'uuid' | 'index'> }> {
  /** Takes the next line; returns the blocks that are complete with it, mostly none or one. */
  add(row: Row): Row[][];
}

/**
 * A block ends with the last of the expected GPUs, so that nobody waits for the next tick. `expected` is what
 * the last block held, at first what `nvidia-smi -L` listed. A block that lacks one ends when the index restarts.
 * A GPU that is new comes after the others: its block is given once more, complete.
 */
export function createGpuBlocks<Row extends { reading: Pick<GpuReading, 'uuid' | 'index'> }>(
  expectedAtFirst: Iterable<string>,
): GpuBlocks<Row> {
  let expected = new Set(expectedAtFirst);
  let block = new Map<string, Row>();
  let lastIndex = -1;
  let given = false;

  const give = (): Row[] => {
    given = true;
    expected = new Set(block.keys());
    return [...block.values()];
  };

  return {
    add(row) {
      const { uuid, index } = row.reading;
      const complete: Row[][] = [];
      if (index <= lastIndex || block.has(uuid)) {
        if (!given && block.size > 0) complete.push(give());
        block = new Map();
        given = false;
      }
      block.set(uuid, row);
      lastIndex = index;
      if (expected.size > 0 && [...expected].every((wanted) => block.has(wanted))) complete.push(give());
      return complete;
    },
  };
}
