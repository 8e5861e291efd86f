/** Who makes room: the cheapest sufficient set, found by looking at all of them. */
import { byText, type PerGpu, type TenantView } from './hostView.js';
import { type Need, placeAll } from './placement.js';

/** Up to here every set is looked at; beyond, the dearest are spared first. One host holds a handful. */
const EXACT_UP_TO = 16;

export interface Candidate {
  view: TenantView;
  /** Whom to spare first: the tenant's priority; −∞ for what is wished only while there is room. */
  rank: number;
  /** What its return costs, ms. */
  costMs: number;
}

/** What a set of victims costs: the time lost per priority, the highest first; then how many, then their names. */
interface Cost {
  lostMs: number[];
  names: string[];
}

/**
 * The cheapest set of candidates without which all needs fit; null where there is none. A higher priority is spared
 * whatever lower ones lose (P5); among equals the least time to load again counts. Each victim adds to the cost, so
 * the cheapest set holds none that is not needed.
 */
export function cheapestVictims(candidates: Candidate[], needs: Need[], roomMb: PerGpu): Candidate[] | null {
  const dearestFirst = [...candidates].sort(
    (a, b) => b.rank - a.rank || b.costMs - a.costMs || byText(a.view.id, b.view.id),
  );
  return dearestFirst.length <= EXACT_UP_TO
    ? searchAll(dearestFirst, needs, roomMb)
    : spareDearest(dearestFirst, needs, roomMb);
}

function searchAll(candidates: Candidate[], needs: Need[], roomMb: PerGpu): Candidate[] | null {
  const ranks = [...new Set(candidates.map((candidate) => candidate.rank))];
  const levels = candidates.map((candidate) => ranks.indexOf(candidate.rank));
  const atMost = roomWithoutRest(candidates, roomMb);
  let best: { victims: Candidate[]; cost: Cost } | null = null;

  const visit = (depth: number, room: PerGpu, victims: Candidate[], cost: Cost): void => {
    if (best !== null && compareCost(cost, best.cost) >= 0) return;
    const candidate = candidates[depth];
    if (candidate === undefined) {
      if (placeAll(needs, room) !== null) best = { victims, cost };
      return;
    }
    if (!couldFit(needs, room, atMost[depth] ?? room)) return;
    visit(depth + 1, room, victims, cost);
    const level = levels[depth];
    visit(depth + 1, plus(room, candidate.view.committedMb), [...victims, candidate], {
      lostMs: cost.lostMs.map((lost, index) => (index === level ? lost + Math.max(1, candidate.costMs) : lost)),
      names: [...cost.names, candidate.view.id].sort(byText),
    });
  };
  visit(0, roomMb, [], { lostMs: ranks.map(() => 0), names: [] });
  return (best as { victims: Candidate[] } | null)?.victims ?? null;
}

/** Of several sets of victims, the cheapest by the same measure. */
export function cheapestSet<T extends { victims: Candidate[] }>(sets: T[]): T | null {
  const ranks = [...new Set(sets.flatMap(({ victims }) => victims.map(({ rank }) => rank)))].sort((a, b) => b - a);
  const costOf = (victims: Candidate[]): Cost => ({
    lostMs: ranks.map((rank) =>
      victims.reduce((lost, victim) => lost + (victim.rank === rank ? Math.max(1, victim.costMs) : 0), 0),
    ),
    names: victims.map(({ view }) => view.id).sort(byText),
  });
  const priced = sets.map((set) => ({ set, cost: costOf(set.victims) }));
  return priced.sort((a, b) => compareCost(a.cost, b.cost))[0]?.set ?? null;
}

function compareCost(a: Cost, b: Cost): number {
  for (const [level, lost] of a.lostMs.entries()) {
    const difference = lost - (b.lostMs[level] ?? 0);
    if (difference !== 0) return difference;
  }
  if (a.names.length !== b.names.length) return a.names.length - b.names.length;
  return byText(a.names.join('\n'), b.names.join('\n'));
}

/** What the candidates from each depth on could give at the most. */
function roomWithoutRest(candidates: Candidate[], roomMb: PerGpu): PerGpu[] {
  const given: PerGpu[] = [];
  let rest = roomMb.map(() => 0);
  for (let depth = candidates.length - 1; depth >= 0; depth -= 1) {
    rest = plus(rest, candidates[depth]?.view.committedMb ?? []);
    given[depth] = rest;
  }
  return given;
}

/** Cheap, and never false where the needs do fit: cuts the branches that cannot. */
function couldFit(needs: Need[], roomMb: PerGpu, restMb: PerGpu): boolean {
  let room = 0;
  for (const [gpu, free] of roomMb.entries()) room += Math.max(0, free + (restMb[gpu] ?? 0));
  for (const need of needs) {
    let own = 0;
    for (const held of need.ownMb) own += held;
    if (need.peakMb > room + own) return false;
  }
  return true;
}

/** For more tenants than can be looked at in every combination: all go, then each stays that can, dearest first. */
function spareDearest(candidates: Candidate[], needs: Need[], roomMb: PerGpu): Candidate[] | null {
  const fitsWithout = (victims: Candidate[]): boolean => placeAll(needs, withoutAll(victims, roomMb)) !== null;
  if (!fitsWithout(candidates)) return null;
  let victims = candidates;
  for (const candidate of candidates) {
    const without = victims.filter((victim) => victim !== candidate);
    if (fitsWithout(without)) victims = without;
  }
  return victims;
}

/** The room once these are gone. */
export const withoutAll = (gone: { view: TenantView }[], roomMb: PerGpu): PerGpu =>
  gone.reduce((room, { view }) => plus(room, view.committedMb), [...roomMb]);

const plus = (room: PerGpu, more: PerGpu): PerGpu => room.map((free, gpu) => free + (more[gpu] ?? 0));
