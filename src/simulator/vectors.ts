import { createHash } from 'node:crypto';
import { seededRandom } from './random.js';

/** A unit-norm vector that follows the input alone: the same text or image gives the same vector everywhere. */
export function unitVector(input: string | Buffer, dimension: number): number[] {
  const random = seededRandom(createHash('sha256').update(input).digest().readUInt32BE());
  const raw = Array.from({ length: dimension }, () => random() - 0.5);
  const norm = Math.hypot(...raw);
  return raw.map((value) => value / norm);
}
