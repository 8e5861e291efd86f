/** How far above what is declared of a tenant it was seen to take. Pure. */

/** Less than this share of what is declared, or than so many MB, is not worth a word. */
const SHARE = 0.15;
const LEAST_MB = 500;

/** 0: about as declared, or less. Each level is twice as far above as the one before, so growth is told of a few times. */
export function driftLevel(declaredMb: number, seenMb: number): number {
  const margins = (seenMb - declaredMb) / Math.max(LEAST_MB, declaredMb * SHARE);
  return margins <= 1 ? 0 : 1 + Math.floor(Math.log2(margins));
}
