/** Why there is no plan: the figures, who holds what, and what can be done about it (M18). */
import { tenantName } from '../../contracts/names.js';
import type { Refusal } from '../../contracts/plan.js';
import type { Target, TenantKind } from '../../contracts/residency.js';
import { type Gpu, type HostView, type PerGpu, sum, type TenantView } from './hostView.js';
import { calledForPeople, gpuCount } from './leases.js';
import { type Need, placeAll } from './placement.js';
import type { Holder, Start } from './room.js';
import { cheapestVictims } from './victims.js';
import type { Obstacle } from './wishes.js';
import { listed, mb, saidOnce } from './wording.js';

export const refuse = (host: HostView, obstacle: Obstacle, neededMb: number | null): Refusal => ({
  ...obstacle,
  neededMb,
  figures: Object.fromEntries(
    host.gpus.map(({ id, device: { totalMb, usedMb, foreignMb } }) => [
      id,
      { totalMb, usedMb, freeMb: totalMb === null || usedMb === null ? null : totalMb - usedMb, foreignMb },
    ]),
  ),
});

/**
 * The needs do not fit, whoever may be pushed out: says what stands against it, the most lasting first.
 * @param inside who would make the room inside the tenant that a need is inside, and must not be unloaded
 */
export function refuseRoom(host: HostView, start: Start, target: Target, inside: Holder[]): Refusal {
  const need = culprit(start, target);
  const obstacle =
    start.needs.map((each) => neverFits(host, each)).find((found) => found !== null) ??
    (inside.length > 0 ? blockedBy(host, start, need, inside) : heldByOthers(host, start, need)) ??
    unusableGpu(host, start, need) ??
    notEnough(host, start, need);
  return refuse(host, obstacle, sum(start.needs.map((each) => each.peakMb)));
}

/** What the sentence is about: what was asked for, else the largest. */
function culprit(start: Start, target: Target): Need | undefined {
  const largest = [...start.needs].sort((a, b) => b.peakMb - a.peakMb)[0];
  return start.needs.find((need) => need.view.id === target.asked) ?? largest;
}

/** Larger than every GPU when empty. A GPU of unknown size may be large enough. */
function neverFits(host: HostView, need: Need): Obstacle | null {
  if (host.gpus.some((gpu) => gpu.device.totalMb === null)) return null;
  if (need.shareMb !== undefined) return neverOnEach(host, need, need.shareMb);
  const capacities = host.gpus.map((gpu) => Math.max(0, gpu.capacityMb));
  if (need.lands === 'given') return neverFitsGiven(host, need);
  const most = need.lands === 'one' ? Math.max(0, ...capacities) : sum(capacities);
  if (need.peakMb <= most) return null;
  const largest = [...host.gpus].sort((a, b) => b.capacityMb - a.capacityMb)[0];
  const together = need.lands === 'one' || host.gpus.length < 2 ? '' : `; all ${host.gpus.length} together ${mb(most)}`;
  return {
    code: 'never-fits',
    message:
      `${need.view.id} needs ${mb(need.peakMb)}, and the largest GPU, ${largest?.label ?? 'none'}, has ` +
      `${mb(largest?.device.totalMb ?? 0)}, of which ${mb(largest?.capacityMb ?? 0)} after the reserve${together}`,
    remedy: LESS[need.view.tenant.kind],
  };
}

/** There are not as many GPUs that are large enough, or not those that were named. */
function neverOnEach(host: HostView, need: Need, shareMb: PerGpu): Obstacle | null {
  const { on = 1 } = need.view.tenant.lease ?? {};
  const count = gpuCount({ on });
  const largeEnough = host.gpus.filter((gpu, at) => (shareMb[at] ?? 0) <= gpu.capacityMb);
  if (largeEnough.length >= count) return null;
  const missing = typeof on === 'number' ? [] : on.filter((id) => !host.gpus.some((gpu) => gpu.id === id));
  const asked = host.gpus.filter((_, at) => Number.isFinite(shareMb[at]));
  const why = () => {
    if (missing.length > 0)
      return `this host has no ${listed(missing)}: it has ${listed(host.gpus.map(({ id }) => id))}`;
    if (asked.length < count) return `this host has ${asked.length}`;
    if (largeEnough.length > 0) return `large enough are only ${listed(largeEnough.map(({ label }) => label))}`;
    const largest = [...asked].sort((a, b) => b.capacityMb - a.capacityMb)[0];
    const size = `has ${mb(largest?.device.totalMb ?? 0)}, of which ${mb(largest?.capacityMb ?? 0)} after the reserve`;
    return `the largest GPU${typeof on === 'number' ? '' : ' asked for'}, ${largest?.label ?? 'none'}, ${size}`;
  };
  const isOnlyTooMuch = count === 1 && missing.length === 0;
  const remedy = isOnlyTooMuch ? LESS.reservation : 'ask for fewer or other GPUs, or for less with `--mb`';
  return { code: 'never-fits', message: `${needs(need)}, and ${why()}`, remedy };
}

function neverFitsGiven(host: HostView, need: Need): Obstacle | null {
  const tooSmall = host.gpus.find((gpu, at) => need.given[at] && gpu.capacityMb < need.peakMb);
  if (tooSmall === undefined) return null;
  return {
    code: 'never-fits',
    message:
      `${needs(need)}, and ${tooSmall.label} has ${mb(tooSmall.device.totalMb ?? 0)}, of which ` +
      `${mb(Math.max(0, tooSmall.capacityMb))} after the reserve`,
    remedy: LESS[need.view.tenant.kind],
  };
}

/** It would fit if those went who must not be pushed out. */
function heldByOthers(host: HostView, start: Start, need: Need | undefined): Obstacle | null {
  const reasons = ['in-use', 'outranks', 'pinned', 'unavailable'] as const;
  for (let allowed = 1; allowed <= reasons.length; allowed += 1) {
    const movable = start.holders.filter(
      ({ spared }) => spared === null || reasons.slice(0, allowed).some((why) => why === spared.why),
    );
    const inTheWay = (cheapestVictims(movable, start.needs, start.roomMb) as Holder[] | null)?.filter(
      ({ spared }) => spared !== null,
    );
    if (inTheWay !== undefined && inTheWay.length > 0) return blockedBy(host, start, need, inTheWay);
  }
  return null;
}

function blockedBy(host: HostView, start: Start, need: Need | undefined, holders: Holder[]): Obstacle {
  const whys = holders.map(({ spared }) => spared?.why);
  const said = saidOnce(holders.map(({ view, spared }) => ({ of: holding(host, view), why: spared?.reason ?? '' })));
  const names = said.map(({ of, why }) => `${listed(of)} and ${of.length === 1 ? 'is' : 'are'} not pushed out: ${why}`);
  const message = `${shortage(host, start, need)}; ${listed(names)}`;
  const byHand = holders.map(({ view }) => handOver(view));
  if (whys.includes('outranks') || whys.includes('pinned')) {
    return { code: 'holder-outranks', message, remedy: `take away by hand what may go: ${listed(byHand)}` };
  }
  if (whys.includes('unavailable')) {
    return { code: 'driver-unavailable', message, remedy: 'bring the driver back; `vramflow doctor` says how' };
  }
  return { code: 'in-use', message, remedy: `wait until the requests have ended, or ${listed(byHand)}` };
}

/** It would fit if a GPU that takes nothing new did. */
function unusableGpu(host: HostView, start: Start, need: Need | undefined): Obstacle | null {
  const out = host.gpus.filter((gpu) => gpu.problem !== null);
  const nowhereElse = out.length === host.gpus.length;
  const asIfEmpty = start.roomMb.map((room, gpu) => {
    const { capacityMb = 0, device } = host.gpus[gpu] ?? {};
    return Number.isFinite(room) ? room : device?.totalMb === null ? Number.MAX_SAFE_INTEGER : capacityMb;
  });
  if (out.length === 0) return null;
  if (!nowhereElse && placeAll(start.needs, asIfEmpty) === null) return null;
  const quarantined = out.find((gpu) => gpu.problem?.code === 'device-quarantined');
  const said = saidOnce(out.map((gpu) => ({ of: gpu.label, why: gpu.problem?.reason ?? '' })));
  const reasons = said.map(({ of, why }) => `${listed(of)}: ${why}`);
  const room = nowhereElse ? `${needs(need)}, and no GPU takes anything new` : shortage(host, start, need);
  return quarantined !== undefined
    ? {
        code: 'device-quarantined',
        message: `${room}; quarantined: ${reasons.join('; ')}`,
        remedy: `end what the reason names on ${quarantined.label} (nvidia-smi shows its processes); the quarantine ends by itself then`,
      }
    : {
        code: 'device-unknown',
        message: `${room}; unknown, and unknown is not free: ${reasons.join('; ')}`,
        remedy: 'run `vramflow doctor`: it says why the reading is missing',
      };
}

function notEnough(host: HostView, start: Start, need: Need | undefined): Obstacle {
  const strangers = host.gpus.filter((gpu) => gpu.problem === null && gpu.baseMb > 0);
  const held = strangers.map((gpu) => `${mb(gpu.baseMb)} on ${gpu.label} ${ofWhat(gpu)}`);
  const movable = start.holders.filter(({ spared }) => spared === null).map(({ view }) => handOver(view));
  const wished = start.holders.filter(({ spared }) => spared?.why === 'wished').map(({ view }) => holding(host, view));
  const details = [
    held.length > 0 ? `held by programs that vramflow does not manage: ${listed(held)}` : '',
    wished.length > 0 ? `wanted there as well: ${listed(wished)}` : '',
    start.needs.length > 1 ? `together with ${listed(others(start, need))}` : '',
  ].filter((text) => text !== '');
  const remedies = [
    held.length > 0 ? 'close programs that use the GPU (`vramflow status` lists them)' : '',
    movable.length > 0 ? `${listed(movable)}, which alone is not enough` : '',
    LESS[need?.view.tenant.kind ?? 'model'],
  ].filter((text) => text !== '');
  return {
    code: 'not-enough-vram',
    message: [shortage(host, start, need), ...details].join('; '),
    remedy: remedies.join('; '),
  };
}

/** How what was asked for takes less. */
const LESS: Record<TenantKind, string> = {
  embedder: 'leave it on the CPU',
  model: 'use a smaller model or a smaller quantisation of it, or set `allow_cpu` for it',
  service:
    'let it take less, and change its `vram_mb` in the configuration: with another figure it is learned anew what it takes',
  reservation: 'ask for less with `--mb`',
};

const others = (start: Start, need: Need | undefined): string[] =>
  start.needs.filter((each) => each !== need).map((each) => `${each.view.id} (${mb(each.peakMb)})`);

const needs = (need: Need | undefined): string =>
  `${need?.view.id} needs ${amount(need)}${need?.lands === 'given' ? givenWhere(need.given) : ''}`;

function amount(need: Need | undefined): string {
  const lease = need?.view.tenant.lease;
  const count = lease === undefined ? 1 : gpuCount(lease);
  if (lease === undefined || count === 1) return mb(need?.peakMb ?? 0);
  return lease.mb === null ? `${count} whole GPUs` : `${mb(lease.mb)} on each of ${count} GPUs`;
}

/** Where it has no choice; on a host with one GPU nobody has. */
function givenWhere(given: boolean[]): string {
  if (given.length < 2) return '';
  return given.filter(Boolean).length === 1 ? ' on the GPU that it was given' : ' on each GPU that it was given';
}

/** `model/x needs 10,752 MB, and RTX 4090 has 3,000 MB left of 24,564 MB`. */
function shortage(host: HostView, start: Start, need: Need | undefined): string {
  const reserve = host.reserveMb > 0 ? ` after the reserve of ${mb(host.reserveMb)}` : '';
  const isAsked = (at: number) =>
    need?.shareMb === undefined ? need?.lands !== 'given' || need.given[at] : Number.isFinite(need.shareMb[at]);
  const left = host.gpus.flatMap((gpu, at) => (isAsked(at) ? [roomOn(gpu, start.roomMb, at)] : []));
  return `${needs(need)}, and ${listed(left)}${reserve}`;
}

function roomOn(gpu: Gpu, roomMb: PerGpu, at: number): string {
  const room = roomMb[at] ?? 0;
  if (!Number.isFinite(room)) return `${gpu.label} takes nothing new`;
  return `${gpu.label} has ${mb(Math.max(0, room))} left of ${mb(gpu.device.totalMb ?? 0)}`;
}

function ofWhat({ baseMb, device: { foreignMb, reclaimingMb } }: Gpu): string {
  const parts = [
    (foreignMb ?? 0) > 0 ? `${mb(foreignMb ?? 0)} foreign` : '',
    reclaimingMb > 0 ? `${mb(reclaimingMb)} not proven free yet` : '',
    baseMb - (foreignMb ?? 0) - reclaimingMb >= 1 ? `${mb(baseMb - (foreignMb ?? 0) - reclaimingMb)} unexplained` : '',
  ].filter((text) => text !== '');
  return `(${parts.join(', ')})`;
}

function holding(host: HostView, view: TenantView): string {
  const places = host.gpus.filter((_, gpu) => (countedMb(view)[gpu] ?? 0) > 0).map((gpu) => gpu.label);
  return `${calledForPeople(view.tenant)} holds ${mb(sum(countedMb(view)))} on ${listed(places)}`;
}

/** What is inside another tenant is charged with that one. */
const countedMb = ({ countedAs, committedMb, heldMb }: TenantView): PerGpu =>
  countedAs === null ? committedMb : heldMb;

/** The command that frees what it holds. */
const handOver = (view: TenantView): string => {
  const { id, tenant } = view;
  const commands = {
    embedder: 'clip move cpu',
    model: `model unload ${tenantName(id)}`,
    service: `service stop ${tenantName(id)}`,
    reservation: `lease release ${tenantName(id)}`,
  };
  return `\`vramflow ${commands[tenant.kind]}\` (${mb(sum(countedMb(view)))})`;
};
