import { ChildError } from './failure.js';

/**
 * Splits a model's [rows, dimension] output into vectors of length 1: CLIP's projections are not, and callers
 * compare by dot product.
 * @throws ChildError when a vector is not finite or is all zeros: there is no direction to give.
 */
export function unitRows(data: Float32Array, rows: number): number[][] {
  const dimension = data.length / rows;
  return Array.from({ length: rows }, (_, row) => {
    const vector = Array.from(data.subarray(row * dimension, (row + 1) * dimension));
    const norm = Math.hypot(...vector);
    if (!Number.isFinite(norm) || norm === 0) {
      throw new ChildError('internal', `The model answered an embedding of norm ${norm}.`);
    }
    return vector.map((value) => value / norm);
  });
}
