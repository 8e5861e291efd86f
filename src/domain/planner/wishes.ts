/** What each wish still needs, tenant by tenant, given what is observed. */
import { EMBEDDER, tenantName } from '../../contracts/names.js';
import type { RefusalCode, Rejected } from '../../contracts/plan.js';
import type { Target, Wish } from '../../contracts/residency.js';
import { byText, type HostView, sum, type TenantView } from './hostView.js';
import { leastOf, sharesOf } from './leases.js';
import type { Need } from './placement.js';

/** A tenant that leaves the GPU, or is unloaded: before anything is loaded. */
export interface Removal {
  view: TenantView;
  kind: 'unload' | 'to-cpu';
  why: string;
}

export interface Soft {
  view: TenantView;
  wish: Extract<Wish, { place: 'gpu-if-room' }>;
}

export interface Demands {
  removals: Removal[];
  /** To a GPU, without fail. */
  needs: Need[];
  /** Where they should be, but nobody knows yet whether they work (M9: a direct load may be under way). */
  confirms: { view: TenantView; why: string }[];
  /** Models that are to run from system memory. */
  cpuLoads: { view: TenantView; why: string }[];
  /** To a GPU while there is room (M5). */
  soft: Soft[];
  /** What is left out without a refusal, and why (law 7). */
  notes: Rejected[];
}

/** Nothing of the kind can be had: the plan is refused whatever the figures are. */
export interface Obstacle {
  code: RefusalCode;
  message: string;
  remedy: string;
}

export function readWishes(host: HostView, target: Target): Demands | Obstacle {
  const demands: Demands = { removals: [], needs: [], confirms: [], cpuLoads: [], soft: [], notes: [] };
  for (const [id, wish] of Object.entries(target.wishes).sort(([a], [b]) => byText(a, b))) {
    const view = host.tenants.get(id);
    const obstacle = view === undefined ? unobserved(id, wish, target) : readWish(host, view, wish, target, demands);
    if (obstacle !== null) return obstacle;
  }
  return demands;
}

export const isObstacle = (value: Demands | Obstacle): value is Obstacle => 'code' in value;

function unobserved(id: string, wish: Wish, target: Target): Obstacle | null {
  if (wish.place === 'absent') return null;
  if (id === EMBEDDER && target.asked !== EMBEDDER) return null;
  return {
    code: 'unknown-tenant',
    message: `nothing is known of ${id} on this host`,
    remedy: 'name a model of the configuration; `vramflow model ps` lists them',
  };
}

function readWish(host: HostView, view: TenantView, wish: Wish, target: Target, demands: Demands): Obstacle | null {
  const { tenant } = view;
  const asked = target.asked === view.id;
  if (tenant.kind === 'embedder' && tenant.state === 'absent' && wish.place !== 'absent') {
    if (asked) return partMissing(view);
    demands.notes.push({ tenant: view.id, reason: whyMissing(view) });
    return null;
  }
  const noGpu = host.gpus.length === 0;
  if (noGpu && asked && tenant.kind === 'embedder' && wish.place === 'gpu') return noGpuToMoveTo(view);
  if (noGpu && tenant.kind === 'reservation' && wish.place === 'gpu') return noGpuToLease(view);
  const place = noGpu && wish.place.startsWith('gpu') ? 'cpu' : wish.place;
  const why = `${target.because}${noGpu && place !== wish.place ? '; this host has no GPU' : ''}`;
  const anew = 'anew' in wish && wish.anew;
  if (isThere(view, place) && !anew) {
    // A probe makes Ollama load what has gone: not onto a GPU that takes nothing new.
    const isUsable = host.gpus.every((gpu, at) => gpu.problem === null || (view.committedMb[at] ?? 0) === 0);
    const unproven = place !== 'absent' && tenant.kind === 'model' && !tenant.proven;
    if (unproven && isUsable) demands.confirms.push({ view, why });
    return null;
  }
  if (place === 'absent' && endsWithOuter(host, view, target)) return null;
  if (view.unavailable !== null) {
    if (asked || !canWait(view, wish, place, target)) return driverUnavailable(view);
    demands.notes.push({ tenant: view.id, reason: view.unavailable });
    return null;
  }
  switch (place) {
    case 'absent':
      demands.removals.push({ view, kind: 'unload', why: `${why}: it is not wanted` });
      break;
    case 'cpu':
      toCpu(view, why, demands, anew);
      break;
    case 'gpu':
      toGpu(host, view, why, demands, anew);
      break;
    case 'gpu-if-room':
      demands.soft.push({ view, wish: wish as Soft['wish'] });
      break;
  }
  return null;
}

/** What it is inside is stopped, and it with that, whatever its own driver says. */
function endsWithOuter(host: HostView, { tenant }: TenantView, target: Target): boolean {
  const outer = host.tenants.get(tenant.inside ?? '');
  return outer !== undefined && target.wishes[outer.id]?.place === 'absent' && !isThere(outer, 'absent');
}

/**
 * True where the rest of the target may go on without this tenant: what is wished only if there is room, and an
 * embedder that holds no GPU. M7 does not wait: beside a model that is to be loaded no embedder stays on the GPU.
 */
function canWait(view: TenantView, wish: Wish, place: Wish['place'], target: Target): boolean {
  if (wish.place === 'gpu-if-room') {
    return !view.onGpu || wish.notBeside.every((other) => target.wishes[other]?.place !== 'gpu');
  }
  return view.tenant.kind === 'embedder' && place === 'cpu' && !view.onGpu;
}

/** True when it is where it is wished. A soft wish is settled later, with the room that there will be. */
function isThere(view: TenantView, place: Wish['place']): boolean {
  const { tenant, onGpu, onCpu } = view;
  switch (place) {
    case 'absent':
      return tenant.state === 'absent' || (tenant.state === 'error' && tenant.holdings.length === 0);
    case 'cpu':
      return isOnCpuOnly(view);
    case 'gpu':
      return tenant.state === 'resident' && onGpu && (!onCpu || (tenant.allowCpu && tenant.kind === 'model'));
    case 'gpu-if-room':
      return false;
  }
}

/** A service that runs and does not work: it has to be started anew. */
const isUnwell = ({ tenant }: TenantView): boolean => tenant.state === 'unhealthy';

export const isOnCpuOnly = (view: TenantView): boolean => view.tenant.state === 'resident' && view.onCpu && !view.onGpu;

/** True for a model that holds GPU memory as it should: whole, or partly where the configuration allows that. */
export const isWell = (view: TenantView): boolean => isThere(view, 'gpu');

export function toCpu(
  view: TenantView,
  why: string,
  demands: Pick<Demands, 'removals' | 'cpuLoads'>,
  anew = false,
): void {
  if (view.tenant.kind === 'embedder') {
    demands.removals.push({ view, kind: 'to-cpu', why });
    return;
  }
  if (view.onGpu) demands.removals.push({ view, kind: 'unload', why: `${why}: it moves to system memory` });
  else if (anew || isUnwell(view)) demands.removals.push({ view, kind: 'unload', why: `${why}: it is started anew` });
  demands.cpuLoads.push({ view, why });
}

function toGpu(host: HostView, view: TenantView, why: string, demands: Demands, anew: boolean): void {
  const { kind, state, allowCpu } = view.tenant;
  const onOneGpu = view.countedAs !== null || view.committedMb.filter((held) => held > 0).length === 1;
  // What was being unloaded may be memory that is not back yet: that is proven before anything loads into it.
  const goesOn = onOneGpu && !allowCpu && state !== 'unloading' && !isUnwell(view) && !anew;
  const startsAnew = kind !== 'embedder' && (view.onCpu || (view.onGpu && !goesOn));
  if (startsAnew) {
    const now = anew
      ? 'it is started anew'
      : view.onCpu
        ? `it is ${view.onGpu ? 'partly ' : ''}in system memory`
        : `its state is ${state}`;
    demands.removals.push({ view, kind: 'unload', why: `${why}: ${now}, so it is brought up anew` });
  }
  demands.needs.push(needOf(host, view, startsAnew));
}

/** @param startsAnew - it is unloaded before, so it keeps nothing */
export function needOf(host: HostView, view: TenantView, startsAnew: boolean): Need {
  const { tenant, driver } = view;
  if (tenant.lease !== undefined) return needOfLease(host, view, tenant.lease);
  const chargeMb = Math.max(0, tenant.chargeMb);
  const peakMb = Math.max(chargeMb, tenant.peakMb);
  const keeps = !startsAnew && view.onGpu && view.countedAs === null;
  const ownMb = keeps ? view.committedMb : host.gpus.map(() => 0);
  const oneByOne = driver.placement === 'chosen' || tenant.kind === 'embedder';
  const chosen = tenant.givenGpus === undefined ? 'one' : 'given';
  return {
    view,
    peakMb,
    chargeMb,
    ownMb,
    lands: keeps && tenant.kind !== 'embedder' ? 'there' : oneByOne ? chosen : 'driver',
    given: host.gpus.map(({ id }) => tenant.givenGpus?.includes(id) ?? false),
  };
}

/**
 * What it takes beyond the charge of the tenant that it is inside, which is used up by what stays in there and what comes
 * before it.
 * @param gone who has left by then
 */
export function beyondOuter(host: HostView, need: Need, gone: ReadonlySet<string>, before: Need[]): Need {
  const outer = host.tenants.get(need.view.countedAs ?? '');
  if (outer === undefined) return need;
  const inThereMb = ({ id, tenant, heldMb }: TenantView): number => {
    if (before.some(({ view }) => view.id === id)) return tenant.chargeMb;
    return gone.has(id) ? 0 : sum(heldMb);
  };
  const others = outer.inner.filter(({ id }) => id !== need.view.id).map(inThereMb);
  // A GPU that takes nothing new takes it from nobody.
  const charged = outer.committedMb.filter((_, gpu) => host.gpus[gpu]?.problem === null);
  const leftMb = Math.max(0, sum(charged) - sum(others));
  return { ...need, chargeMb: Math.max(0, need.chargeMb - leftMb), peakMb: Math.max(0, need.peakMb - leftMb) };
}

/** It has no place yet, or is to give back the one that it has. */
function needOfLease(host: HostView, view: TenantView, lease: NonNullable<TenantView['tenant']['lease']>): Need {
  const shareMb = sharesOf(
    lease,
    host.gpus.map(({ device }) => device),
    host.reserveMb,
  );
  const leastMb = leastOf(lease, shareMb);
  return {
    view,
    peakMb: leastMb,
    chargeMb: leastMb,
    ownMb: host.gpus.map(() => 0),
    lands: 'each',
    given: host.gpus.map(() => false),
    shareMb,
  };
}

const whyMissing = ({ driver }: TenantView): string => driver.reason ?? 'its optional part is not installed';

const partMissing = (view: TenantView): Obstacle => ({
  code: 'part-missing',
  message: `${view.id} does not run: ${whyMissing(view)}`,
  remedy: '`vramflow doctor` says what its optional part needs; the rest works without it',
});

const noGpuToMoveTo = (view: TenantView): Obstacle => ({
  code: 'no-gpu',
  message: `${view.id} stays on the CPU: this host has no GPU`,
  remedy: 'nothing need be done; it works on the CPU. If there is a GPU, `vramflow doctor` says why it is not seen',
});

const noGpuToLease = (view: TenantView): Obstacle => ({
  code: 'no-gpu',
  message: `${view.id} cannot be had: this host has no GPU`,
  remedy: 'run it without a lease. If there is a GPU, `vramflow doctor` says why it is not seen',
});

const driverUnavailable = (view: TenantView): Obstacle => ({
  code: 'driver-unavailable',
  message: `${view.id} cannot be changed: ${view.unavailable ?? 'its driver is not available'}`,
  remedy: remedyFor(view),
});

const remedyFor = ({ tenant, driver }: TenantView): string =>
  driver.resting && tenant.inside !== undefined
    ? `start what it runs in: \`vramflow service start ${tenantName(tenant.inside)}\``
    : REMEDIES[tenant.driver];

const REMEDIES: Record<TenantView['tenant']['driver'], string> = {
  ollama: 'start Ollama, or correct `ollama_endpoint`; vramflow tries again by itself',
  clip: 'see `vramflow doctor` for the CLIP part',
  docker: 'see that the Docker daemon runs, and `docker.socket` in the configuration; vramflow tries again by itself',
  native: 'see `vramflow service logs` of it, and the log of the agent',
  leases: 'see the log of the agent',
};
