/** Decides, from numbers alone, whether the embedder works after a start or a move (M8). Pure. */

/** How far a vector's length may be from 1; single precision over some hundred values stays well below. */
const NORM_TOLERANCE = 1e-3;

export type ProbeVerdict = { ok: true } | { ok: false; reason: string };

/**
 * Right dimension, finite, unit norm, and equal to the other device's within tolerance.
 * @param candidate embeddings of the probe inputs by the new process
 * @param reference the same inputs by the old one; null when there is none
 * @param expected.tolerance cosine similarity must be at least 1 − tolerance
 */
export function checkEmbeddings(
  candidate: number[][],
  reference: number[][] | null,
  expected: { dimension: number; tolerance: number },
): ProbeVerdict {
  if (candidate.length === 0) return wrong('there are no embeddings');
  if (reference !== null && reference.length !== candidate.length) {
    return wrong(`${candidate.length} embeddings came, the other device gave ${reference.length}`);
  }
  for (const [index, vector] of candidate.entries()) {
    const reason = flawOf(vector, expected.dimension) ?? disagreement(vector, reference?.[index], expected.tolerance);
    if (reason !== null) return wrong(`embedding ${index}: ${reason}`);
  }
  return { ok: true };
}

function flawOf(vector: number[], dimension: number): string | null {
  if (vector.length !== dimension) return `dimension ${vector.length} instead of ${dimension}`;
  if (!vector.every(Number.isFinite)) return 'a value is not finite';
  const norm = Math.hypot(...vector);
  return Math.abs(norm - 1) <= NORM_TOLERANCE ? null : `norm ${norm.toFixed(4)} instead of 1`;
}

function disagreement(vector: number[], reference: number[] | undefined, tolerance: number): string | null {
  if (reference === undefined) return null;
  if (reference.length !== vector.length) return `dimension ${vector.length}, on the other device ${reference.length}`;
  const cosine = cosineOf(vector, reference);
  // Written so that a NaN, from a reference that is none, counts as disagreement.
  return cosine >= 1 - tolerance
    ? null
    : `cosine ${cosine.toFixed(6)} to the other device, at least ${1 - tolerance} wanted`;
}

function cosineOf(a: number[], b: number[]): number {
  const dot = a.reduce((sum, value, i) => sum + value * (b[i] ?? Number.NaN), 0);
  return dot / (Math.hypot(...a) * Math.hypot(...b));
}

const wrong = (reason: string): ProbeVerdict => ({ ok: false, reason });
