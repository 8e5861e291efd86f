/** Law 2: when a sample proves that the memory of an unloaded tenant is back. Pure, per GPU. */

/** What each process has on one GPU, pid → MB; a null figure: `[N/A]`. */
export type Listed = Map<number, number | null>;

export interface ReclaimCase {
  gpu: string;
  /** Used when the unload began, MB; null: no reading then. */
  beforeMb: number | null;
  /** What the tenant held there, MB. */
  heldMb: number;
  /** True: nobody could tell what it held, `heldMb` is the most that it may have. */
  atMost?: boolean;
  /** Processes on this GPU before. Null: no list. */
  processesBefore: Listed | null;
  /** The tenant's own processes, where they are known. */
  ownPids: number[];
  /** Processes that hold other tenants of ours, as far as they are known. */
  pidsOfOthers: number[];
  /** Other reclaims of ours that may give memory back on this GPU after the reading before. */
  others: OtherReclaim[];
}

export interface OtherReclaim {
  tenant: string;
  pids: number[];
  /** What it still held there at the reading before, MB. */
  mb: number;
}

export interface ReclaimSample {
  usedMb: number | null;
  processes: Listed | null;
}

/** A drop of this share of what was held counts as all of it: contexts and pools round the figures (as Ollama does). */
const SHARE = 0.75;
/** What a process has beyond this share of what was held is not ours, if another tenant is known to be in it. */
const TOO_LARGE = 1.25;
/** Readings within this many MB of each other are stable. */
const STABLE_MB = 32;
/** So many stable samples in a row mean that nothing is being given back any more. */
const STABLE_SAMPLES = 5;
/** A process stays on the list for up to so many samples after its end: a stranger's end then looks like ours. */
const LIST_LAG_SAMPLES = 4;

/**
 * Proven, when its processes are off the list and the used memory has dropped by what was held, after allowing for
 * strangers that grew or shrank meanwhile, and for what other reclaims may have given back (M6: what another one gave
 * back is neither its proof nor its figure). A holder that had crashed before the unload began (it was on no list then)
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
  const recent = samples.slice(-LIST_LAG_SAMPLES).map((sample) => dropOf(reclaim, own, heldMb, sample));
  const drop = recent.at(-1) ?? null;
  const lag = drop?.isSurelyOurs ? 1 : LIST_LAG_SAMPLES;
  const counting = recent.slice(-lag);
  if (
    drop &&
    !isListLate(reclaim, own) &&
    counting.length === lag &&
    counting.every((each) => each !== null && each.atLeastMb >= heldMb * SHARE)
  ) {
    return `used memory dropped by ${Math.round(drop.figureMb)} MB`;
  }
  if (!isStable(samples)) return null;
  if (reclaim.atMost === true && drop !== null && drop.atLeastMb > STABLE_MB) {
    return `what it held was not known; ${Math.round(drop.figureMb)} MB came back, and used memory is stable`;
  }
  if (wasGoneBefore(reclaim, own)) return 'its process was gone before, and used memory is stable';
  // It was on no list: it was part of what no process explained, and a part of it may have been back by then.
  if (isOnNoList(reclaim) && drop !== null && drop.atLeastMb >= unexplainedMb(reclaim) * SHARE) {
    return `the rest of it came back, ${Math.round(drop.figureMb)} MB, and used memory is stable`;
  }
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
  const others = reclaim.others.flatMap(({ pids }) => pids);
  const suspects = suspectsOn(processesBefore, reclaim).filter((pid) => !others.includes(pid));
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

/** Those that could be it by their size. Of Ollama's runners of one size nobody knows which model each one has. */
const suspectsOn = (list: Listed, { heldMb, pidsOfOthers }: Pick<ReclaimCase, 'heldMb' | 'pidsOfOthers'>): number[] =>
  [...list]
    .filter(
      ([pid, mb]) => mb !== null && mb >= heldMb * SHARE && !(pidsOfOthers.includes(pid) && mb > heldMb * TOO_LARGE),
    )
    .map(([pid]) => pid);

/** Memory that no listed process explains is as large as it: a container hides processes, or figures are missing. */
const isHidden = (reclaim: ReclaimCase): boolean => unexplainedMb(reclaim) >= reclaim.heldMb * SHARE;

function unexplainedMb({ beforeMb, processesBefore }: ReclaimCase): number {
  if (beforeMb === null || processesBefore === null) return Number.POSITIVE_INFINITY;
  return beforeMb - claimedMb(processesBefore);
}

const sum = (amounts: number[]): number => amounts.reduce((total, mb) => total + mb, 0);

const claimedMb = (list: Listed): number => sum([...list.values()].map((mb) => mb ?? 0));

/**
 * What is to come back: what its processes had in the reading before, where the list says so. A model that was still
 * loading had less by then than its API claims.
 */
function reallyHeldMb({ heldMb, processesBefore, atMost }: ReclaimCase, own: number[]): number {
  if (atMost === true) return heldMb;
  const listedMb = own.reduce((total, pid) => total + (processesBefore?.get(pid) ?? 0), 0);
  return listedMb > 0 ? Math.min(listedMb, heldMb) : heldMb;
}

/** Nothing on the list was it, or could have been it, and no unexplained memory was as large as it. */
function wasGoneBefore(reclaim: ReclaimCase, own: number[]): boolean {
  return !isHidden(reclaim) && (isListLate(reclaim, own) || isOnNoList(reclaim));
}

function isOnNoList({ processesBefore, ownPids, ...reclaim }: ReclaimCase): boolean {
  if (processesBefore === null) return false;
  if (ownPids.length > 0) return !ownPids.some((pid) => processesBefore.has(pid));
  return suspectsOn(processesBefore, reclaim).length === 0;
}

/** The card used less in all than the list claimed for this tenant alone: its memory was back, and the list was late. */
function isListLate({ beforeMb, processesBefore }: ReclaimCase, own: number[]): boolean {
  if (beforeMb === null || processesBefore === null) return false;
  return beforeMb < sum(own.map((pid) => processesBefore.get(pid) ?? 0)) * SHARE;
}

/** What it still holds of what it is to give back, as far as this sample tells: others may count no more than that. */
export function remainingMb(reclaim: ReclaimCase, sample: ReclaimSample): number {
  const own = ownListed(reclaim);
  const heldMb = reallyHeldMb(reclaim, own);
  const drop = dropOf(reclaim, own, heldMb, sample);
  return Math.min(heldMb, Math.max(0, heldMb - (drop?.atLeastMb ?? 0)));
}

interface Drop {
  atLeastMb: number;
  /** What is shown: what it held, as far as the drop bears that out. */
  figureMb: number;
  /** False: a list that is late, or hides processes, may have taken another one's end for ours. */
  isSurelyOurs: boolean;
}

/**
 * What it gave back by this sample. What other reclaims may have given back, unseen by the list, is not counted. But
 * where the list shows its own end, one that has not ended yet is not waited for.
 */
function dropOf(reclaim: ReclaimCase, own: number[], heldMb: number, sample: ReclaimSample): Drop | null {
  const drop = dropSince(reclaim, own, heldMb, sample);
  const claimed = reclaim.processesBefore === null ? 0 : claimedMb(reclaim.processesBefore);
  if (drop === null || claimed <= (reclaim.beforeMb ?? 0)) return drop;
  // The list is older than the reading of the card, which had used at least what the list claims.
  const sinceList = dropSince({ ...reclaim, beforeMb: claimed }, own, heldMb, sample);
  return sinceList !== null && sinceList.atLeastMb > drop.atLeastMb ? sinceList : drop;
}

function dropSince(reclaim: ReclaimCase, own: number[], heldMb: number, sample: ReclaimSample): Drop | null {
  if (reclaim.beforeMb === null || sample.usedMb === null) return null;
  const inAllMb = reclaim.beforeMb + growthOfStrangers(reclaim, own, sample.processes) - sample.usedMb;
  const withoutOthersMb = inAllMb - sum(reclaim.others.map((other) => unseenMb(reclaim, other, sample.processes)));
  const figureMb = Math.min(inAllMb, Math.max(heldMb, withoutOthersMb));
  const isListed = own.length > 0 && reclaim.processesBefore !== null;
  return isListed && sample.processes !== null && !isStillListed(reclaim, own, heldMb, sample)
    ? { atLeastMb: figureMb, figureMb, isSurelyOurs: withoutOthersMb >= heldMb * SHARE }
    : { atLeastMb: withoutOthersMb, figureMb, isSurelyOurs: isListed || reclaim.processesBefore === null };
}

/** What another reclaim may have given back without the list showing it: the list is late, or hides its processes. */
function unseenMb(reclaim: ReclaimCase, { pids, mb }: OtherReclaim, now: Listed | null): number {
  const seen = sum(pids.map((pid) => -(changeOf(reclaim, pid, now) ?? 0)));
  return Math.max(0, mb - Math.max(0, seen));
}

/** Signed: one that shrank or ended gave memory back that was not ours. A figure that is missing tells no change. */
function growthOfStrangers(reclaim: ReclaimCase, own: number[], now: Listed | null): number {
  const pids = new Set([...(reclaim.processesBefore?.keys() ?? []), ...(now?.keys() ?? [])]);
  return sum([...pids].map((pid) => (own.includes(pid) ? 0 : (changeOf(reclaim, pid, now) ?? 0))));
}

/** How a process on the list has grown; null where that cannot be told. */
function changeOf({ beforeMb, processesBefore: before }: ReclaimCase, pid: number, now: Listed | null): number | null {
  if (before === null || now === null) return null;
  // A list that claimed more than the card used was late: who leaves it next had given its memory back before.
  if (!now.has(pid) && claimedMb(before) > (beforeMb ?? Number.POSITIVE_INFINITY)) return null;
  const from = before.has(pid) ? before.get(pid) : 0;
  const to = now.has(pid) ? now.get(pid) : 0;
  return from == null || to == null ? null : to - from;
}

/** Nothing is being given back any more, nor taken. A reading that is missing tells nothing. */
export function isStable(samples: ReclaimSample[]): boolean {
  const recent = samples.slice(-STABLE_SAMPLES).map((sample) => sample.usedMb);
  if (recent.length < STABLE_SAMPLES || recent.includes(null)) return false;
  const known = recent.filter((mb) => mb !== null);
  return Math.max(...known) - Math.min(...known) <= STABLE_MB;
}
