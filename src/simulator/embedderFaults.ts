import type { EmbedFaults } from './embedders.js';

/** A vector as the fault wants it; unharmed without one. `different` differs by device, so that two devices disagree. */
export function distort(vector: number[], wrong: EmbedFaults['wrong'], device: 'cpu' | 'cuda'): number[] {
  switch (wrong) {
    case null:
      return vector;
    case 'not-finite':
      return vector.map((value, i) => (i === 7 ? Number.NaN : value));
    case 'wrong-dimension':
      return vector.slice(0, vector.length / 2);
    case 'not-unit':
      return vector.map((value) => value * 3);
    case 'different':
      return device === 'cuda' ? [...vector].reverse() : [...vector.slice(1), ...vector.slice(0, 1)];
  }
}
