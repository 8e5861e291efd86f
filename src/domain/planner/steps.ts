/** The ordered steps: frees first, then loads; each with its peak per GPU, whatever else runs beside it. */
import { CPU } from '../../contracts/names.js';
import type { PlanStep } from '../../contracts/plan.js';
import { byText, type HostView, type PerGpu, sum, type TenantView } from './hostView.js';
import { MOVE_MS, type Placed } from './room.js';
import type { Removal } from './wishes.js';
import { listed, mb } from './wording.js';

/** Until an unload has been measured, the proof included; Ollama gives VRAM back within 0.5–1.5 s. */
const UNLOAD_MS = 1500;
/** One token of a model that is there. */
const PROBE_MS = 200;

/** A step before it has a number: what it changes on each GPU, MB. */
interface Action {
  kind: PlanStep['kind'];
  view: TenantView;
  devices: string[];
  /** Beyond what is there before, while it runs; and what it adds and gives back when it has ended. */
  peakMb: PerGpu;
  addsMb: PerGpu;
  /** What a reading will show as given back; the budget counts `addsMb`. */
  freesMb: PerGpu;
  /** Only for loads and moves to a GPU. */
  loads: boolean;
  /** Tenants that must have left before, wherever they are. */
  notBeside: string[];
  needsMb: number;
  allowCpu: boolean;
  confirms: boolean;
  to: string;
  expectedMs: number;
  why: string;
}

export interface Work {
  removals: Removal[];
  placed: Placed[];
  confirms: { view: TenantView; why: string }[];
  cpuLoads: { view: TenantView; why: string }[];
  because: string;
}

export function arrange(host: HostView, work: Work): { steps: PlanStep[]; expectedMs: number } {
  const actions = [
    ...work.removals
      .map((removal) => removalAction(host, removal))
      .sort((a, b) => byText(a.kind, b.kind) || byText(a.view.id, b.view.id)),
    ...work.confirms.map(({ view, why }) => confirmation(host, view, why)),
    ...work.cpuLoads.map(({ view, why }) => cpuLoad(host, view, why)),
    ...work.placed.map((placed) => loadAction(host, placed, work.because)),
  ];
  const order = orderOf(host, actions);
  const startMb = host.gpus.map((gpu, at) => gpu.baseMb + heldOn(host, at));
  const steps = actions.map((action, index) =>
    numbered(host, action, index, order, peaks(host, actions, order, startMb, index)),
  );
  return { steps, expectedMs: criticalPath(steps) };
}

function removalAction(host: HostView, { view, kind, why }: Removal): Action {
  const move = kind === 'to-cpu';
  // An attempt that died may hold memory on any GPU before a reading shows it.
  const hidden = !move && view.tenant.state !== 'resident' && !view.onGpu;
  const freesMb = view.heldMb.map((held, gpu) => held + sum(view.inner.map(({ heldMb }) => heldMb[gpu] ?? 0)));
  const held = host.gpus.filter((_, gpu) => (freesMb[gpu] ?? 0) > 0);
  const freed = sum(freesMb) > 0 ? `; frees ${mb(sum(freesMb))} on ${listed(held.map((gpu) => gpu.label))}` : '';
  return {
    kind: move ? 'move' : 'unload',
    view,
    devices: devicesOf(view, [...(move || view.onCpu ? [CPU] : []), ...(hidden ? host.gpus.map((gpu) => gpu.id) : [])]),
    peakMb: zeros(host),
    addsMb: view.committedMb.map((committed) => -committed),
    freesMb,
    loads: false,
    notBeside: [],
    needsMb: 0,
    allowCpu: false,
    confirms: false,
    to: CPU,
    expectedMs: move ? MOVE_MS : (view.tenant.stopMs ?? UNLOAD_MS),
    why: `${why}${freed}`,
  };
}

/** A probe: it takes nothing that it does not hold, or will hold by itself. */
function confirmation(host: HostView, view: TenantView, why: string): Action {
  return {
    kind: 'load',
    view,
    devices: devicesOf(view, []),
    peakMb: zeros(host),
    addsMb: zeros(host),
    freesMb: zeros(host),
    loads: true,
    notBeside: [],
    needsMb: 0,
    allowCpu: view.tenant.allowCpu || view.onCpu,
    confirms: true,
    to: view.tenant.holdings[0]?.device ?? CPU,
    expectedMs: PROBE_MS,
    why: `${why}; it is listed, and a probe tells whether it works`,
  };
}

function cpuLoad(host: HostView, view: TenantView, why: string): Action {
  return {
    kind: 'load',
    view,
    devices: [CPU],
    peakMb: zeros(host),
    addsMb: zeros(host),
    freesMb: zeros(host),
    loads: true,
    notBeside: [],
    needsMb: 0,
    allowCpu: true,
    confirms: false,
    to: CPU,
    expectedMs: loadMsOn(view, [CPU]),
    why: `${why}; it runs from system memory`,
  };
}

function loadAction(host: HostView, { need, landing, partly, notBeside }: Placed, because: string): Action {
  const { view } = need;
  const move = view.tenant.kind === 'embedder';
  const goesOn = need.lands === 'there';
  const landsOn = host.gpus.filter(
    (_, gpu) =>
      (landing.peakMb[gpu] ?? 0) > 0 || (landing.afterMb[gpu] ?? 0) > 0 || (goesOn && (need.ownMb[gpu] ?? 0) > 0),
  );
  const takesMb = need.lands === 'each' ? sum(landing.peakMb) : need.peakMb;
  // A driver that places by itself may use any GPU that its server sees, so all of them are the step's.
  const reach = need.lands === 'driver' ? host.gpus : landsOn;
  const gpus = reach.map((gpu) => gpu.id);
  const names = listed(landsOn.map((gpu) => gpu.label)) || 'a GPU';
  const where = need.lands === 'given' && landsOn.length > 1 ? `each of ${names}, which it was given` : names;
  const room = partly
    ? `its ${mb(need.peakMb)} do not fit whole, so what is free on ${where} is used and the rest is in system memory`
    : view.countedAs !== null && need.peakMb === 0
      ? `it fits into what ${view.countedAs} is charged`
      : `${goesOn ? `goes on with its attempt in state ${view.tenant.state}, ` : ''}needs ${mb(takesMb)} on ${where}`;
  return {
    kind: move ? 'move' : 'load',
    view,
    devices: move ? devicesOf(view, [...gpus, CPU]) : [...gpus, ...(partly ? [CPU] : [])],
    peakMb: landing.peakMb,
    addsMb: landing.afterMb,
    freesMb: move ? need.ownMb.map((own, gpu) => (own > 0 ? (view.heldMb[gpu] ?? 0) : 0)) : zeros(host),
    loads: true,
    notBeside,
    needsMb: partly ? 0 : Math.max(0, takesMb - (goesOn ? sum(need.ownMb) : 0)),
    allowCpu: partly || view.tenant.allowCpu,
    confirms: false,
    to: landsOn[0]?.id ?? CPU,
    expectedMs: move
      ? MOVE_MS
      : loadMsOn(
          view,
          landsOn.map((gpu) => gpu.id),
        ),
    why: `${because}; ${room}`,
  };
}

/** As measured there; over several devices, or where it never was, as measured last. */
function loadMsOn({ tenant }: TenantView, devices: string[]): number {
  const [device, ...more] = devices;
  const measured = device === undefined || more.length > 0 ? undefined : tenant.loadMsOn?.[device];
  return measured ?? tenant.loadMs;
}

const zeros = (host: HostView): PerGpu => host.gpus.map(() => 0);

const devicesOf = (view: TenantView, more: string[]): string[] =>
  [...new Set([...view.tenant.holdings.map((holding) => holding.device), ...more])].sort(byText);

/** Of each action, by index: which must have ended before it, directly, and with all that these wait for. */
interface Order {
  after: number[][];
  ended: Set<number>[];
}

function orderOf(host: HostView, actions: Action[]): Order {
  const order: Order = { after: [], ended: [] };
  const gpus = new Set(host.gpus.map((gpu) => gpu.id));
  for (const [index, action] of actions.entries()) {
    const after = action.loads ? precedents(gpus, actions, action, index) : [];
    const ended = new Set(after);
    for (const earlier of after) for (const one of order.ended[earlier] ?? []) ended.add(one);
    order.after.push(after);
    order.ended.push(ended);
  }
  return order;
}

/** The actions that must have ended before a load. */
function precedents(gpus: Set<string>, actions: Action[], action: Action, index: number): number[] {
  const result: number[] = [];
  for (const [earlier, other] of actions.entries()) {
    if (earlier === index) break;
    const shares = other.devices.some((device) => gpus.has(device) && action.devices.includes(device));
    // M7: before a model's load ends, an embedder that is on a GPU has left it, whichever GPU that is.
    const { tenant, onGpu } = other.view;
    const clearsTheWay = tenant.kind === 'embedder' && !other.loads && onGpu && action.kind === 'load';
    const waitsFor = !other.loads && action.notBeside.includes(other.view.id);
    if (shares || clearsTheWay || waitsFor || other.view === action.view) result.push(earlier);
  }
  return result;
}

function numbered(
  host: HostView,
  action: Action,
  index: number,
  { after }: Order,
  peakMb: Record<string, number>,
): PlanStep {
  const base = {
    id: `s${index + 1}`,
    tenant: action.view.id,
    after: (after[index] ?? []).map((earlier) => `s${earlier + 1}`),
    devices: action.devices,
    expectedMs: action.expectedMs,
    peakMb,
    why: action.why,
  };
  switch (action.kind) {
    case 'unload':
      return { ...base, kind: 'unload', freesMb: named(host, action.freesMb) };
    case 'move':
      return { ...base, kind: 'move', to: action.to, freesMb: named(host, action.freesMb) };
    case 'load':
      return { ...base, kind: 'load', needsMb: action.needsMb, allowCpu: action.allowCpu, confirms: action.confirms };
  }
}

/**
 * The worst over every order that `after` allows: what has surely ended, and whatever may run beside it.
 * @param startMb what is on each GPU before the first action
 */
function peaks(
  host: HostView,
  actions: Action[],
  { ended }: Order,
  startMb: PerGpu,
  index: number,
): Record<string, number> {
  const levelMb = [...startMb];
  for (const [other, { addsMb, peakMb }] of actions.entries()) {
    const hasEnded = ended[index]?.has(other);
    const comesLater = ended[other]?.has(index);
    if (comesLater) continue;
    for (const at of levelMb.keys()) {
      const adds = addsMb[at] ?? 0;
      const most = Math.max(0, peakMb[at] ?? 0, other === index ? 0 : adds);
      levelMb[at] = (levelMb[at] ?? 0) + (hasEnded ? adds : most);
    }
  }
  const level: Record<string, number> = {};
  for (const [at, { id, device }] of host.gpus.entries()) if (device.usedMb !== null) level[id] = levelMb[at] ?? 0;
  return level;
}

function heldOn(host: HostView, at: number): number {
  let held = 0;
  for (const view of host.tenants.values()) held += view.committedMb[at] ?? 0;
  return held;
}

const named = (host: HostView, amounts: PerGpu): Record<string, number> =>
  Object.fromEntries(host.gpus.flatMap((gpu, at) => ((amounts[at] ?? 0) > 0 ? [[gpu.id, amounts[at] ?? 0]] : [])));

/** Steps side by side take as long as the longest chain of them. */
function criticalPath(steps: PlanStep[]): number {
  const ends = new Map<string, number>();
  for (const step of steps) {
    const start = Math.max(0, ...step.after.map((id) => ends.get(id) ?? 0));
    ends.set(step.id, start + step.expectedMs);
  }
  return Math.max(0, ...ends.values());
}
