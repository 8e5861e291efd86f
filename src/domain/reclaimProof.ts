/** Law 2: when a sample proves that the memory of an unloaded tenant is back. Pure, per GPU. */

export interface ReclaimCase {
  gpu: string;
  /** Used when the unload began, MB; null: no reading then. */
  beforeMb: number | null;
  /** What the tenant held there, MB. */
  heldMb: number;
  /** Processes on this GPU before: pid → MB. Null: no list. */
  processesBefore: Map<number, number> | null;
  /** The tenant's own processes, where they are known. */
  ownPids: number[];
}

export interface ReclaimSample {
  usedMb: number | null;
  processes: Map<number, number> | null;
}

/** A drop of this share of what was held counts as all of it: contexts and pools round the figures (as Ollama does). */
const SHARE = 0.75;
/** Readings within this many MB of each other are stable. */
const STABLE_MB = 32;
/** So many stable samples in a row mean that nothing is being given back any more. */
const STABLE_SAMPLES = 5;

/**
 * Proven, when the used memory has dropped by what was held, after allowing for strangers that grew meanwhile. A holder
 * that had crashed before the unload began (its processes were on no list then) gives nothing back any more: there
 * stable memory is the proof (pain 3).
 * @param samples taken after the tenant left its API's list, oldest first
 * @returns how it was proven, or null while it is not
 */
export function proveReclaimed(reclaim: ReclaimCase, samples: ReclaimSample[]): string | null {
  const last = samples.at(-1);
  if (!last || last.usedMb === null) return null;
  if (reclaim.beforeMb !== null) {
    const dropped = reclaim.beforeMb + growthOfStrangers(reclaim, last) - last.usedMb;
    if (dropped >= reallyHeldMb(reclaim) * SHARE) return `used memory dropped by ${Math.round(dropped)} MB`;
  }
  if (wasGoneBefore(reclaim) && isStable(samples)) return 'its process was gone before, and used memory is stable';
  return null;
}

/**
 * What is to come back: what its processes had in the reading before, where the list says so. A model that was still
 * loading had less by then than its API claims.
 */
function reallyHeldMb({ heldMb, processesBefore, ownPids }: ReclaimCase): number {
  const listedMb = ownPids.reduce((total, pid) => total + (processesBefore?.get(pid) ?? 0), 0);
  return listedMb > 0 ? Math.min(listedMb, heldMb) : heldMb;
}

/** Nothing of it was on the list, and no unexplained memory was as large as it (a container hides processes). */
function wasGoneBefore({ beforeMb, heldMb, processesBefore, ownPids }: ReclaimCase): boolean {
  if (beforeMb === null || processesBefore === null) return false;
  if (ownPids.some((pid) => processesBefore.has(pid))) return false;
  const explained = [...processesBefore.values()].reduce((sum, mb) => sum + mb, 0);
  return beforeMb - explained < heldMb * SHARE;
}

function growthOfStrangers({ processesBefore, ownPids }: ReclaimCase, { processes }: ReclaimSample): number {
  if (processesBefore === null || processes === null) return 0;
  let growth = 0;
  for (const [pid, mb] of processes) {
    if (!ownPids.includes(pid)) growth += mb - (processesBefore.get(pid) ?? 0);
  }
  return growth;
}

function isStable(samples: ReclaimSample[]): boolean {
  const recent = samples.slice(-STABLE_SAMPLES).map((sample) => sample.usedMb);
  if (recent.length < STABLE_SAMPLES || recent.includes(null)) return false;
  const known = recent.filter((mb) => mb !== null);
  return Math.max(...known) - Math.min(...known) <= STABLE_MB;
}
