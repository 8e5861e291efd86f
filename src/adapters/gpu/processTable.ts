/**
 * The compute processes as the second stream shows them. That stream is silent when no process runs, and it is
 * silent when it hangs: so silence alone says nothing. The list is known while lines come (a process whose line
 * stopped coming has left), or while a query of its own has proven, not long ago, that no process runs.
 */
import type { GpuProcess } from './reader.js';

/** How long a proof of silence holds; it is renewed a little earlier. */
const PROOF_MS = 30_000;
const RENEW_MS = 25_000;

export interface ProcessTable {
  see(process: GpuProcess, at: number): void;
  /** A line that cannot be read: the list is not whole. */
  odd(at: number): void;
  /** A query of its own, asked at this moment, ended well and listed nothing. Void if a line came since. */
  proveEmpty(at: number): void;
  /** The stream ended: nothing is known until lines or a proof come again. */
  forget(): void;
  /** A line counts for `windowMs`: at least two ticks of the stream. Null: the list is not known. */
  list(now: number, windowMs: number): GpuProcess[] | null;
  /** True when silence needs a proof. */
  needsProof(now: number, windowMs: number): boolean;
}

export function createProcessTable(): ProcessTable {
  const seen = new Map<string, { process: GpuProcess; at: number }>();
  let oddAt = Number.NEGATIVE_INFINITY;
  let emptyAt = Number.NEGATIVE_INFINITY;
  let lineAt = Number.NEGATIVE_INFINITY;

  const fresh = (now: number, windowMs: number): GpuProcess[] => {
    for (const [key, { at }] of seen) if (now - at > windowMs) seen.delete(key);
    return [...seen.values()].map(({ process }) => process);
  };

  return {
    see(process, at) {
      seen.set(`${process.uuid}/${process.pid}`, { process, at });
      emptyAt = Number.NEGATIVE_INFINITY;
      lineAt = at;
    },
    odd(at) {
      oddAt = at;
    },
    proveEmpty(at) {
      if (lineAt < at) emptyAt = at;
    },
    forget() {
      seen.clear();
      emptyAt = Number.NEGATIVE_INFINITY;
    },
    list(now, windowMs) {
      if (now - oddAt <= windowMs) return null;
      const rows = fresh(now, windowMs);
      return rows.length > 0 || now - emptyAt <= PROOF_MS ? rows : null;
    },
    needsProof(now, windowMs) {
      return fresh(now, windowMs).length === 0 && now - emptyAt > RENEW_MS;
    },
  };
}
