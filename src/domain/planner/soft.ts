/** `gpu-if-room` (M5): decided last, with the memory that will be free once everything else is done. */
import type { Rejected } from '../../contracts/plan.js';
import type { Target } from '../../contracts/residency.js';
import type { HostView, PerGpu, TenantView } from './hostView.js';
import { type Budget, type Landing, land, take } from './placement.js';
import type { Placed } from './room.js';
import { type Demands, isOnCpuOnly, isWell, needOf, type Removal, type Soft, toCpu } from './wishes.js';
import { mb } from './wording.js';

export interface Settled {
  removals: Removal[];
  placed: Placed[];
  cpuLoads: Demands['cpuLoads'];
  rejected: Rejected[];
}

/**
 * Settles the soft wishes, models before the embedder, each as if it and those after it were not on a GPU yet.
 * @param gone - what the plan unloads or moves away so far
 * @param freeMb - what a reading will show as free then, the reserve included; −∞ where the reading is unknown
 */
export function settleSoft(
  host: HostView,
  demands: Demands,
  target: Target,
  gone: Set<string>,
  budget: Budget,
  freeMb: PerGpu,
): Settled {
  const settled: Settled = { removals: [], placed: [], cpuLoads: [], rejected: [] };
  const free = [...freeMb];
  const present = new Set<string>();
  const leaving = new Set(gone);
  const rest = inOrder(demands.soft);
  for (const soft of rest) leaving.add(soft.view.id);
  for (const soft of rest) {
    const { view, wish } = soft;
    const beside = wish.notBeside.find((id) => isBeside(host, id, target, leaving, present));
    // A GPU counts while more than the threshold is free on it.
    const open = free.map((mbFree) => mbFree > wish.minFreeMb);
    const why = `${target.because}: ${describeRoom(host, wish.minFreeMb, free, beside)}`;
    if (beside === undefined && staysThrough(view, open, budget)) {
      for (const [gpu, held] of view.committedMb.entries()) {
        budget.roomMb[gpu] = (budget.roomMb[gpu] ?? 0) - held;
        budget.slackMb[gpu] = (budget.slackMb[gpu] ?? 0) - held;
        free[gpu] = (free[gpu] ?? 0) - (view.heldMb[gpu] ?? 0);
      }
      present.add(view.id);
      continue;
    }
    const landing = beside === undefined ? landOpen(host, view, open, budget.roomMb) : null;
    if (landing === null) {
      if (stayAway(soft, why, settled) === 'on-cpu') present.add(view.id);
      continue;
    }
    if (view.onGpu || (view.tenant.kind === 'model' && view.onCpu)) {
      const kind = view.tenant.kind === 'embedder' ? 'to-cpu' : 'unload';
      settled.removals.push({ view, kind, why: `${why}; it comes back once the rest is in place` });
    }
    take(budget, landing);
    for (const [gpu, taken] of landing.afterMb.entries()) free[gpu] = (free[gpu] ?? 0) - taken;
    settled.placed.push({ need: needOf(host, view, true), landing, partly: false });
    present.add(view.id);
  }
  return settled;
}

const inOrder = (soft: Soft[]): Soft[] => [
  ...soft.filter(({ view }) => view.tenant.kind === 'model'),
  ...soft.filter(({ view }) => view.tenant.kind === 'embedder'),
];

/** M5: the other one is resident or loading, or will be. Nobody knows: then it counts as there (law 1). */
function isBeside(host: HostView, id: string, target: Target, leaving: Set<string>, present: Set<string>): boolean {
  const other = host.tenants.get(id)?.tenant;
  if (other === undefined) return false;
  const wished = target.wishes[id]?.place;
  if (present.has(id) || wished === 'gpu' || wished === 'cpu') return true;
  if (leaving.has(id)) return false;
  return other.holdings.length > 0 || !['absent', 'error'].includes(other.state);
}

/** It is on GPUs that count, as it should be, and was in nobody's way while the others loaded. */
function staysThrough(view: TenantView, open: boolean[], budget: Budget): boolean {
  if (!isWell(view) || view.committedMb.every((held) => held <= 0)) return false;
  return view.committedMb.every(
    (held, gpu) =>
      held <= 0 || (open[gpu] === true && held <= (budget.roomMb[gpu] ?? 0) && held <= (budget.slackMb[gpu] ?? 0)),
  );
}

/** Only GPUs with enough free count; a driver that places by itself knows nothing of that, so it must happen to fit. */
function landOpen(host: HostView, view: TenantView, open: boolean[], roomMb: PerGpu): Landing | null {
  const need = needOf(host, view, true);
  const counted = (room: number, gpu: number): number => (open[gpu] === true ? room : Number.NEGATIVE_INFINITY);
  const landing = land(need, need.lands === 'driver' ? roomMb : roomMb.map(counted));
  return landing?.peakMb.every((mbTaken, gpu) => mbTaken <= 0 || open[gpu] === true) ? landing : null;
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
