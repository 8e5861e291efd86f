/** Makes room for what must come to a GPU: as it is, else by the cheapest victims, else partly in system memory. */
import { isReservation } from '../../contracts/names.js';
import type { Rejected } from '../../contracts/plan.js';
import type { Target } from '../../contracts/residency.js';
import { byText, type HostView, type PerGpu, type TenantView } from './hostView.js';
import { inLoadOrder, type Landing, landPartly, type Need, placeAll, take } from './placement.js';
import { type Candidate, cheapestVictims, withoutAll } from './victims.js';
import { beyondOuter, type Demands, isOnCpuOnly } from './wishes.js';
import { counted } from './wording.js';

/** A move of the embedder to the CPU, or back. */
export const MOVE_MS = 2000;

/** A tenant in the way, and why it must not be pushed out (null: it may). */
export interface Holder extends Candidate {
  spared: { why: 'pinned' | 'in-use' | 'outranks' | 'unavailable' | 'wished'; reason: string } | null;
}

export interface Placed {
  need: Need;
  landing: Landing;
  /** May run partly from system memory. */
  partly: boolean;
  /** Who must have left first, wherever they are (M5). */
  notBeside: string[];
}

/** What the plan starts from: who is in the way, and what is free once the wished removals are done. */
export interface Start {
  needs: Need[];
  holders: Holder[];
  roomMb: PerGpu;
}

export interface Room {
  placed: Placed[];
  victims: TenantView[];
  /** Wished only while there is room, and now there is none: they are out of the way first. */
  yielding: TenantView[];
  /** In system memory, as they may be, because they do not fit on the GPU whole. */
  staysOnCpu: TenantView[];
  /** What is left when all of that is done. */
  roomMb: PerGpu;
  rejected: Rejected[];
}

/** @param leaving - soft tenants that leave the GPU whatever room there is */
export function startOf(host: HostView, demands: Demands, target: Target, leaving: Set<string>): Start {
  const gone = new Set([...demands.removals.map(({ view }) => view.id), ...leaving]);
  const staying = [...host.tenants.values()].filter((view) => !gone.has(view.id));
  const needed = new Set(demands.needs.map((need) => need.view.id));
  const soft = new Set(demands.soft.map(({ view }) => view.id));
  const roomMb = host.gpus.map((gpu, index) =>
    gpu.problem !== null
      ? Number.NEGATIVE_INFINITY
      : staying.reduce((room, view) => room - (view.committedMb[index] ?? 0), gpu.capacityMb - gpu.baseMb),
  );
  const inTheWay = staying.filter(
    (view) => !needed.has(view.id) && view.committedMb.some((mb, gpu) => mb > 0 && host.gpus[gpu]?.problem === null),
  );
  const holders = inTheWay.map((view) => holderOf(view, target, soft.has(view.id)));
  const needs: Need[] = [];
  for (const need of inLoadOrder(demands.needs)) needs.push(beyondOuter(host, need, gone, needs));
  return { needs, holders, roomMb };
}

export function holderOf(view: TenantView, target: Target, soft: boolean): Holder {
  const costMs = view.tenant.kind === 'embedder' ? MOVE_MS : view.tenant.loadMs;
  return soft
    ? { view, costMs, rank: Number.NEGATIVE_INFINITY, spared: null }
    : { view, costMs, rank: view.tenant.priority, spared: whySpared(view, target) };
}

function whySpared(view: TenantView, target: Target): Holder['spared'] {
  const { tenant, inner } = view;
  // What is inside would go with it.
  const all = [tenant, ...inner.map((one) => one.tenant)];
  const uses = all.reduce((total, one) => total + one.uses, 0);
  const wantsInner = inner.some(({ id }) => (target.wishes[id]?.place ?? 'absent') !== 'absent');
  if (target.wishes[view.id] !== undefined || wantsInner) {
    return { why: 'wished', reason: `wanted there by ${target.because} too` };
  }
  if (all.some(({ pinned }) => pinned)) return { why: 'pinned', reason: 'pinned' };
  if (uses > 0) return { why: 'in-use', reason: `in use by ${counted(uses, 'request')}` };
  if (tenant.priority > target.priority) {
    return { why: 'outranks', reason: `its priority ${tenant.priority} is above ${target.priority}` };
  }
  // Its program is at work as long as it is held: what ranks no higher does not take it away (pain 7), nor would two
  // programs of the same priority take it from each other for ever (P7).
  if (isReservation(view.id) && tenant.priority === target.priority) {
    return { why: 'outranks', reason: `it is a lease of the same priority, ${tenant.priority}` };
  }
  return view.unavailable === null ? null : { why: 'unavailable', reason: view.unavailable };
}

/** Null: the needs do not fit, whoever may be pushed out. */
export function makeRoom(start: Start): Room | null {
  // A model that may run from system memory gives up being whole before a plan is refused; the lowest first.
  const yielding = start.needs
    .filter((need) => need.view.tenant.kind === 'model' && need.view.tenant.allowCpu)
    .sort((a, b) => a.view.tenant.priority - b.view.tenant.priority || byText(a.view.id, b.view.id));
  for (let yielded = 0; yielded <= yielding.length; yielded += 1) {
    const partly = new Set(yielding.slice(0, yielded));
    const whole = start.needs.filter((need) => !partly.has(need));
    const candidates = start.holders.filter((holder) => holder.spared === null);
    const victims = placeAll(whole, start.roomMb) !== null ? [] : cheapestVictims(candidates, whole, start.roomMb);
    if (victims !== null) return settle(start, whole, [...partly], victims);
  }
  return null;
}

function settle(start: Start, whole: Need[], partly: Need[], chosen: Candidate[]): Room {
  const freedMb = withoutAll(chosen, start.roomMb);
  const { landings, leftMb: roomMb } = placeAll(whole, freedMb) ?? { landings: [], leftMb: freedMb };
  const placed: Placed[] = landings.map((landed) => ({ ...landed, partly: false, notBeside: [] }));
  for (const need of partly.filter(({ view }) => !isOnCpuOnly(view))) {
    const landing = landPartly(need, roomMb);
    take(roomMb, landing);
    placed.push({ need, landing, partly: true, notBeside: [] });
  }
  const [yielding, victims] = [chosen.filter(isSoft), chosen.filter((candidate) => !isSoft(candidate))];
  const looked = victims.length > 0 || partly.length > 0;
  return {
    placed,
    victims: victims.map(({ view }) => view),
    yielding: yielding.map(({ view }) => view),
    staysOnCpu: partly.map(({ view }) => view).filter(isOnCpuOnly),
    roomMb,
    rejected: looked ? notChosen(start, new Set(chosen.map(({ view }) => view.id))) : [],
  };
}

const isSoft = ({ rank }: Candidate): boolean => rank === Number.NEGATIVE_INFINITY;

/** Who was looked at and stays, and why. */
export function notChosen(start: Start, chosen: Set<string>): Rejected[] {
  return start.holders
    .filter((holder) => !chosen.has(holder.view.id) && !isSoft(holder))
    .map((holder) => ({ tenant: holder.view.id, reason: holder.spared?.reason ?? 'not needed' }));
}
