/** Where loads land, and whether they fit: by the driver's own choice where it places by itself. */

import { byText, type PerGpu, sum, type TenantView } from './hostView.js';
import { gpuCount } from './leases.js';

/** A tenant that is to come to a GPU. */
export interface Need {
  view: TenantView;
  /** At the most while it loads, and afterwards, MB. */
  peakMb: number;
  chargeMb: number;
  /** What it holds already and keeps until the load has ended: an attempt that died half-way, or the former place. */
  ownMb: PerGpu;
  /**
   * - `there`: where it is already; what it holds counts towards its need
   * - `one`: on the one GPU that we choose
   * - `given`: on any of those that others gave it; so there must be room for the whole on each
   * - `driver`: where the driver chooses (Ollama): whole on the GPU with the most room, else over several
   * - `each`: on as many GPUs as its lease asks for, `shareMb` on each of them
   */
  lands: 'there' | 'one' | 'given' | 'driver' | 'each';
  /** Of a lease: what it takes on each GPU if it is put there; infinite where it must not be. */
  shareMb?: PerGpu;
  /** By GPU, for `given`. */
  given: boolean[];
}

/** What a load takes on each GPU, beyond what it holds there already, MB. */
export interface Landing {
  /** While it loads. */
  peakMb: PerGpu;
  /** When it has ended; negative where it gives something back. */
  afterMb: PerGpu;
}

/**
 * One after the other, what needs the most beyond its charge first: the order in which the peaks are lowest.
 */
export const inLoadOrder = (needs: Need[]): Need[] =>
  [...needs].sort(
    (a, b) =>
      b.peakMb - b.chargeMb - (a.peakMb - a.chargeMb) || b.chargeMb - a.chargeMb || byText(a.view.id, b.view.id),
  );

/** Where all needs land, in the order in which they do, and what they leave free, MB. */
export interface Placement {
  landings: { need: Need; landing: Landing }[];
  leftMb: PerGpu;
}

/**
 * Places all needs, in the order given; where that does not do, first what must be whole on one GPU, for the rest may
 * be split over what is left. Null where they do not fit in either order.
 */
export function placeAll(needs: Need[], roomMb: PerGpu): Placement | null {
  const placement = placeInOrder(needs, roomMb);
  if (placement !== null) return placement;
  const onOne = needs.filter(({ lands }) => lands !== 'driver');
  if (onOne.length === 0 || onOne.length === needs.length) return null;
  return placeInOrder([...onOne, ...needs.filter(({ lands }) => lands === 'driver')], roomMb);
}

function placeInOrder(needs: Need[], roomMb: PerGpu): Placement | null {
  const leftMb = [...roomMb];
  const landings: Placement['landings'] = [];
  for (const need of needs) {
    const landing = land(need, leftMb);
    if (landing === null) return null;
    take(leftMb, landing);
    landings.push({ need, landing });
  }
  return { landings, leftMb };
}

/** What the landing holds for good is no longer free. */
export function take(roomMb: PerGpu, landing: Landing): void {
  for (const [gpu, taken] of landing.afterMb.entries()) roomMb[gpu] = (roomMb[gpu] ?? 0) - taken;
}

/** Where one load lands. GPUs that may take nothing have a room of −∞. */
export function land(need: Need, roomMb: PerGpu): Landing | null {
  switch (need.lands) {
    case 'there':
      return whereItIs(need, roomMb);
    case 'one':
      return landingOn(need, roomMb, bestFit(need, roomMb));
    case 'given':
      return onEachGiven(need, roomMb);
    case 'driver': {
      const most = mostRoom(roomMb);
      return landingOn(need, roomMb, (roomMb[most] ?? -1) >= need.peakMb ? most : -1) ?? spread(need, roomMb);
    }
    case 'each':
      return onEach(need, roomMb);
  }
}

/** What is left of the GPUs, for a load that may do with system memory for the rest. */
export function landPartly(need: Need, roomMb: PerGpu): Landing {
  const whole = land(need, roomMb);
  if (whole !== null) return whole;
  const most = mostRoom(roomMb);
  const taken = roomMb.map((room, gpu) =>
    need.lands === 'driver' || gpu === most ? Math.min(Math.max(0, room), need.peakMb) : 0,
  );
  return { peakMb: taken, afterMb: taken };
}

function landingOn(need: Need, roomMb: PerGpu, gpu: number): Landing | null {
  if (gpu < 0) return null;
  return {
    peakMb: roomMb.map((_, index) => (index === gpu ? need.peakMb : 0)),
    afterMb: roomMb.map((_, index) => (index === gpu ? need.chargeMb : 0) - (need.ownMb[index] ?? 0)),
  };
}

/** The fullest GPUs that have room for its share; fewer than it asks for are none. */
function onEach({ view, shareMb = [] }: Need, roomMb: PerGpu): Landing | null {
  const count = gpuCount(view.tenant.lease ?? {});
  const chosen = [...shareMb.keys()]
    .filter((gpu) => (roomMb[gpu] ?? Number.NEGATIVE_INFINITY) >= (shareMb[gpu] ?? Number.POSITIVE_INFINITY))
    .sort((a, b) => (roomMb[a] ?? 0) - (roomMb[b] ?? 0))
    .slice(0, count);
  if (chosen.length < count) return null;
  const takenMb = roomMb.map((_, gpu) => (chosen.includes(gpu) ? (shareMb[gpu] ?? 0) : 0));
  return { peakMb: takenMb, afterMb: takenMb };
}

function onEachGiven(need: Need, roomMb: PerGpu): Landing | null {
  if (roomMb.some((room, gpu) => need.given[gpu] && room < need.peakMb)) return null;
  const onEach = (amountMb: number): PerGpu => roomMb.map((_, gpu) => (need.given[gpu] ? amountMb : 0));
  return { peakMb: onEach(need.peakMb), afterMb: onEach(need.chargeMb) };
}

/** The GPU where it is already, else the fullest that has room: large rooms are kept for large models. */
function bestFit(need: Need, roomMb: PerGpu): number {
  let best = -1;
  for (const [gpu, room] of roomMb.entries()) {
    if (room < need.peakMb) continue;
    if ((need.ownMb[gpu] ?? 0) > 0) return gpu;
    if (best < 0 || room < (roomMb[best] ?? 0)) best = gpu;
  }
  return best;
}

function mostRoom(roomMb: PerGpu): number {
  let most = -1;
  for (const [gpu, room] of roomMb.entries()) if (most < 0 || room > (roomMb[most] ?? 0)) most = gpu;
  return most;
}

/** Over several GPUs, in proportion to their room, as Ollama splits the layers. */
function spread(need: Need, roomMb: PerGpu): Landing | null {
  const room = roomMb.map((free) => Math.max(0, free));
  if (sum(room) < need.peakMb) return null;
  return { peakMb: split(need.peakMb, room), afterMb: split(need.chargeMb, room) };
}

/** A load that died half-way goes on where it is, on its one GPU. */
function whereItIs(need: Need, roomMb: PerGpu): Landing | null {
  const gpu = need.ownMb.findIndex((own) => own > 0);
  const own = need.ownMb[gpu] ?? 0;
  if ((roomMb[gpu] ?? Number.NEGATIVE_INFINITY) + own < need.peakMb) return null;
  const there = (amountMb: number): PerGpu => roomMb.map((_, index) => (index === gpu ? amountMb : 0));
  return { peakMb: there(Math.max(0, need.peakMb - own)), afterMb: there(need.chargeMb - own) };
}

/** Splits an amount in proportion to the room, in whole MB, never above it. */
function split(amountMb: number, roomMb: PerGpu): PerGpu {
  const total = sum(roomMb);
  let left = amountMb;
  return roomMb.map((room) => {
    const share = total === 0 ? 0 : Math.min(left, room, Math.ceil((amountMb * room) / total));
    left -= share;
    return share;
  });
}
