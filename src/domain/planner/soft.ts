/** `gpu-if-room` (M5): decided with the memory that will be free once everything else is done. */
import type { Rejected } from '../../contracts/plan.js';
import type { Target } from '../../contracts/residency.js';
import type { HostView, PerGpu } from './hostView.js';
import { type Landing, land, type Need, take } from './placement.js';
import type { Placed, Room } from './room.js';
import { beyondOuter, type Demands, isOnCpuOnly, isWell, needOf, type Removal, type Soft, toCpu } from './wishes.js';
import { mb } from './wording.js';

export interface Settled {
  removals: Removal[];
  placed: Placed[];
  cpuLoads: Demands['cpuLoads'];
  rejected: Rejected[];
}

/** What the rest of the plan leaves, as far as it is planned. */
export interface Rest {
  host: HostView;
  target: Target;
  room: Room;
  /** Whom the plan unloads or moves away, soft tenants that leave among them. */
  gone: Set<string>;
}

/** The embedder last: it has another place to go. */
export const inOrder = (soft: Soft[]): Soft[] => [
  ...soft.filter(({ view }) => view.tenant.kind !== 'embedder'),
  ...soft.filter(({ view }) => view.tenant.kind === 'embedder'),
];

/** A tenant that holds GPU memory, but not as it should: it has to start anew to be there. */
export const isBroken = ({ view }: Soft): boolean => view.onGpu && !isWell(view);

/**
 * Settles the soft wishes one after the other, each as if it and those after it were not on a GPU.
 * @returns the ids of those who were counted on to stay and cannot: the rest must be planned without them first
 */
export function settleSoft(soft: Soft[], rest: Rest): Settled | string[] {
  const settled: Settled = { removals: [], placed: [], cpuLoads: [], rejected: [] };
  const roomMb = [...rest.room.roomMb];
  const freeMb = freeAfter(rest, new Set(soft.map(({ view }) => view.id)));
  const present = new Set<string>();
  const ordered = inOrder(soft);
  const away = new Set([...rest.gone, ...ordered.map(({ view }) => view.id)]);
  for (const [index, each] of ordered.entries()) {
    const { view, wish } = each;
    const later = ordered.slice(index + 1).filter((other) => isPresent(other, rest));
    const beside = wish.notBeside.find((id) => isBeside(id, rest, away, present));
    // A GPU counts while more than the threshold is free on it.
    const open = freeMb.map((free) => beside === undefined && free > wish.minFreeMb);
    if (isPresent(each, rest)) {
      const roomWithout = released([each, ...later], roomMb);
      if (!view.committedMb.every((mbHeld, gpu) => mbHeld <= 0 || (open[gpu] && mbHeld <= (roomWithout[gpu] ?? 0)))) {
        return [view.id];
      }
      for (const [gpu, held] of view.heldMb.entries()) freeMb[gpu] = (freeMb[gpu] ?? 0) - held;
      present.add(view.id);
      continue;
    }
    const before = [...rest.room.placed, ...settled.placed].map((placed) => placed.need);
    const need = beyondOuter(rest.host, needOf(rest.host, view, true), rest.gone, before);
    const landing = landOpen(need, open, roomMb);
    if (landing === null && later.length > 0 && landOpen(need, open, released(later, roomMb)) !== null) {
      return later.map((other) => other.view.id);
    }
    const why = `${rest.target.because}: ${describeRoom(rest.host, wish.minFreeMb, freeMb, beside)}`;
    if (landing === null) {
      if (stayAway(each, why, settled) === 'on-cpu') present.add(view.id);
      continue;
    }
    if (view.onGpu || (view.tenant.kind !== 'embedder' && view.onCpu)) {
      const kind = view.tenant.kind === 'embedder' ? 'to-cpu' : 'unload';
      settled.removals.push({ view, kind, why: `${rest.target.because}: it starts anew once the rest is in place` });
    }
    take(roomMb, landing);
    take(freeMb, landing);
    settled.placed.push({ need, landing, partly: false, notBeside: wish.notBeside });
    present.add(view.id);
  }
  return settled;
}

/** Counted on to stay where it is. */
const isPresent = ({ view }: Soft, { gone }: Rest): boolean =>
  !gone.has(view.id) && isWell(view) && (view.countedAs !== null || view.committedMb.some((held) => held > 0));

const released = (soft: Soft[], roomMb: PerGpu): PerGpu =>
  roomMb.map((room, gpu) => soft.reduce((more, { view }) => more + (view.committedMb[gpu] ?? 0), room));

/** What a reading will show as free, the reserve included, with none of the soft tenants there; −∞ where unknown. */
function freeAfter({ host, room, gone }: Rest, soft: Set<string>): PerGpu {
  const placed = new Set(room.placed.map(({ need }) => need.view.id));
  const staying = [...host.tenants.values()].filter(({ id }) => !gone.has(id) && !soft.has(id) && !placed.has(id));
  return host.gpus.map(({ problem, device, baseMb }, gpu) => {
    if (problem !== null) return Number.NEGATIVE_INFINITY;
    const held = staying.reduce((sum, view) => sum + (view.heldMb[gpu] ?? 0), 0);
    const loaded = room.placed.reduce(
      (sum, { need, landing }) => sum + (need.ownMb[gpu] ?? 0) + (landing.afterMb[gpu] ?? 0),
      0,
    );
    return (device.totalMb ?? 0) - baseMb - held - loaded;
  });
}

/** M5: the other one is resident or loading, or will be. Nobody knows: then it counts as there (law 1). */
function isBeside(id: string, { host, target }: Rest, away: Set<string>, present: Set<string>): boolean {
  const other = host.tenants.get(id)?.tenant;
  if (other === undefined) return false;
  const wished = target.wishes[id]?.place;
  if (present.has(id) || wished === 'gpu' || wished === 'cpu') return true;
  if (away.has(id)) return false;
  return other.holdings.length > 0 || !['absent', 'error'].includes(other.state);
}

/** Only GPUs with enough free count. A driver that places by itself knows nothing of that: it must land on such. */
function landOpen(need: Need, open: boolean[], roomMb: PerGpu): Landing | null {
  const counted = (room: number, gpu: number): number => (open[gpu] ? room : Number.NEGATIVE_INFINITY);
  const landing = land(need, need.lands === 'driver' ? roomMb : roomMb.map(counted));
  return landing?.peakMb.every((taken, gpu) => taken <= 0 || open[gpu]) ? landing : null;
}

/** No room: the embedder, and a model that may, go to the CPU, which is not an error; other models stay away. */
function stayAway({ view }: Soft, why: string, settled: Settled): 'on-cpu' | 'absent' {
  const { tenant } = view;
  if (tenant.kind === 'embedder' || tenant.allowCpu) {
    if (!isOnCpuOnly(view)) toCpu(view, why, settled);
    return 'on-cpu';
  }
  if (tenant.holdings.length > 0 || !['absent', 'error'].includes(tenant.state)) {
    settled.removals.push({ view, kind: 'unload', why });
  } else {
    settled.rejected.push({ tenant: view.id, reason: `not loaded. ${why}` });
  }
  return 'absent';
}

function describeRoom(host: HostView, minFreeMb: number, freeMb: PerGpu, beside: string | undefined): string {
  if (beside !== undefined) return `not on a GPU beside ${beside}`;
  const most = host.gpus.reduce((best, _, gpu) => ((freeMb[gpu] ?? 0) > (freeMb[best] ?? 0) ? gpu : best), 0);
  const free = freeMb[most] ?? Number.NEGATIVE_INFINITY;
  if (!Number.isFinite(free)) return 'no GPU has a usable reading, and unknown is not free';
  return `${mb(Math.max(0, free))} are free without it on ${host.gpus[most]?.label}, the threshold is ${mb(minFreeMb)}`;
}
