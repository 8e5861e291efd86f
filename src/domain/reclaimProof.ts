/** Law 2: when a sample proves that the memory of an unloaded tenant is back. Pure, per GPU. */

/** What each process has on one GPU, pid → MB; a null figure: `[N/A]`. */
export type Listed = Map<number, number | null>;

export interface ReclaimCase {
  gpu: string;
  /** Used when the unload began, MB; null: no reading then. */
  beforeMb: number | null;
  /** What the tenant held there, MB. */
  heldMb: number;
  /** Processes on this GPU before. Null: no list. */
  processesBefore: Listed | null;
  /** The tenant's own processes, where they are known. */
  ownPids: number[];
}

export interface ReclaimSample {
  usedMb: number | null;
  processes: Listed | null;
}

/** A drop of this share of what was held counts as all of it: contexts and pools round the figures (as Ollama does). */
const SHARE = 0.75;
/** Readings within this many MB of each other are stable. */
const STABLE_MB = 32;
/** So many stable samples in a row mean that nothing is being given back any more. */
const STABLE_SAMPLES = 5;
/** A process stays on the list for up to so many samples after its end: a stranger's end then looks like ours. */
const LIST_LAG_SAMPLES = 4;

/**
 * Proven, when its processes are off the list and the used memory has dropped by what was held, after allowing for
 * strangers that grew or shrank meanwhile. A holder that had crashed before the unload began (it was on no list then)
 * gives nothing back any more: there stable memory is the proof (pain 3).
 * @param samples taken after the tenant left its API's list, oldest first
 * @returns how it was proven, or null while it is not
 */
export function proveReclaimed(reclaim: ReclaimCase, samples: ReclaimSample[]): string | null {
  const last = samples.at(-1);
  if (!last || last.usedMb === null) return null;
  const own = ownListed(reclaim);
  const heldMb = reallyHeldMb(reclaim, own);
  if (isStillListed(reclaim, own, heldMb, last)) return null;
  const lag = own.length === 0 && reclaim.processesBefore !== null ? LIST_LAG_SAMPLES : 1;
  const recent = samples.slice(-lag).map((sample) => droppedMb(reclaim, own, sample));
  const dropped = recent.at(-1) ?? null;
  if (recent.length === lag && dropped !== null && recent.every((mb) => mb !== null && mb >= heldMb * SHARE)) {
    return `used memory dropped by ${Math.round(dropped)} MB`;
  }
  if (wasGoneBefore(reclaim) && isStable(samples)) return 'its process was gone before, and used memory is stable';
  return null;
}

/**
 * Its processes on the list before. Where nobody knows them and the list explains what was used, the one process that
 * is large enough is it (a container shows no names); of several, none can be told from a stranger.
 */
function ownListed({ processesBefore, ownPids, ...reclaim }: ReclaimCase): number[] {
  if (processesBefore === null) return ownPids;
  if (ownPids.length > 0) return ownPids.filter((pid) => processesBefore.has(pid));
  if (isHidden({ processesBefore, ownPids, ...reclaim })) return [];
  const suspects = largeOn(processesBefore, reclaim.heldMb);
  return suspects.length === 1 ? suspects : [];
}

/** Where its processes were on the list, what they had there has to go; one without a figure has to go itself. */
function isStillListed(
  { processesBefore }: ReclaimCase,
  own: number[],
  heldMb: number,
  { processes }: ReclaimSample,
): boolean {
  if (own.length === 0 || processesBefore === null || processes === null) return false;
  const total = (list: Listed): number =>
    own.reduce((sum, pid) => sum + (list.has(pid) ? (list.get(pid) ?? heldMb) : 0), 0);
  return total(processesBefore) - total(processes) < heldMb * SHARE;
}

const largeOn = (list: Listed, heldMb: number): number[] =>
  [...list].filter(([, mb]) => mb !== null && mb >= heldMb * SHARE).map(([pid]) => pid);

/** Memory that no listed process explains is as large as it: a container hides processes, or figures are missing. */
function isHidden({ beforeMb, heldMb, processesBefore }: ReclaimCase): boolean {
  if (beforeMb === null || processesBefore === null) return true;
  return beforeMb - claimedMb(processesBefore) >= heldMb * SHARE;
}

const claimedMb = (list: Listed): number => [...list.values()].reduce<number>((sum, mb) => sum + (mb ?? 0), 0);

/**
 * What is to come back: what its processes had in the reading before, where the list says so. A model that was still
 * loading had less by then than its API claims.
 */
function reallyHeldMb({ heldMb, processesBefore }: ReclaimCase, own: number[]): number {
  const listedMb = own.reduce((total, pid) => total + (processesBefore?.get(pid) ?? 0), 0);
  return listedMb > 0 ? Math.min(listedMb, heldMb) : heldMb;
}

/** Nothing on the list was it, or could have been it, and no unexplained memory was as large as it. */
function wasGoneBefore(reclaim: ReclaimCase): boolean {
  const { processesBefore, ownPids, heldMb } = reclaim;
  if (processesBefore === null || isHidden(reclaim)) return false;
  if (isListLate(reclaim)) return true;
  if (ownPids.length > 0) return !ownPids.some((pid) => processesBefore.has(pid));
  return largeOn(processesBefore, heldMb).length === 0;
}

/** The card used less in all than the list claimed for this tenant alone: its memory was back, and the list was late. */
function isListLate({ beforeMb, processesBefore, ownPids }: ReclaimCase): boolean {
  if (beforeMb === null || processesBefore === null) return false;
  const claimed = ownPids.reduce((total, pid) => total + (processesBefore.get(pid) ?? 0), 0);
  return beforeMb < claimed * SHARE;
}

function droppedMb(reclaim: ReclaimCase, own: number[], sample: ReclaimSample): number | null {
  if (reclaim.beforeMb === null || sample.usedMb === null) return null;
  return reclaim.beforeMb + growthOfStrangers(reclaim, own, sample.processes) - sample.usedMb;
}

/** Signed: one that shrank or ended gave memory back that was not ours. A figure that is missing tells no change. */
function growthOfStrangers(
  { beforeMb, processesBefore: before }: ReclaimCase,
  own: number[],
  now: Listed | null,
): number {
  if (before === null || now === null) return 0;
  // A list that claimed more than the card used was late: who leaves it next had given its memory back before.
  const wasLate = claimedMb(before) > (beforeMb ?? Number.POSITIVE_INFINITY);
  let growth = 0;
  for (const pid of new Set([...before.keys(), ...now.keys()])) {
    if (wasLate && !now.has(pid)) continue;
    const from = before.has(pid) ? before.get(pid) : 0;
    const to = now.has(pid) ? now.get(pid) : 0;
    if (!own.includes(pid) && from != null && to != null) growth += to - from;
  }
  return growth;
}

function isStable(samples: ReclaimSample[]): boolean {
  const recent = samples.slice(-STABLE_SAMPLES).map((sample) => sample.usedMb);
  if (recent.length < STABLE_SAMPLES || recent.includes(null)) return false;
  const known = recent.filter((mb) => mb !== null);
  return Math.max(...known) - Math.min(...known) <= STABLE_MB;
}
