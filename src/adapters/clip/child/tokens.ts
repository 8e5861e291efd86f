/** Pure: turns token lists of any length into the rectangle that CLIP's text tower takes. */

export interface TokenRectangle {
  ids: BigInt64Array;
  mask: BigInt64Array;
  /** [texts, length of the longest] */
  dims: [number, number];
}

/**
 * Cuts at `maxLength` tokens (CLIP: 77, more makes the model throw) but keeps the end token, which is where the
 * tower reads the embedding: the tokenizer's own truncation drops it, and then all long texts become equal.
 */
export function toRectangle(texts: number[][], options: { maxLength: number; padId: number }): TokenRectangle {
  const cut = texts.map((tokens) => cutBeforeEnd(tokens, options.maxLength));
  const length = Math.max(...cut.map((tokens) => tokens.length));
  const ids = new BigInt64Array(cut.length * length).fill(BigInt(options.padId));
  const mask = new BigInt64Array(cut.length * length);
  cut.forEach((tokens, row) => {
    ids.set(tokens.map(BigInt), row * length);
    mask.fill(1n, row * length, row * length + tokens.length);
  });
  return { ids, mask, dims: [cut.length, length] };
}

function cutBeforeEnd(tokens: number[], maxLength: number): number[] {
  return tokens.length <= maxLength ? tokens : [...tokens.slice(0, maxLength - 1), ...tokens.slice(-1)];
}
