/** The heart: from the residency observed to the residency wanted, safely, or a refusal that says why not. */
import { CPU } from '../contracts/names.js';
import type { PlanResult } from '../contracts/plan.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation, Target } from '../contracts/residency.js';
import { byText, type HostView, labelOf, viewHost, withInner } from './planner/hostView.js';
import { refuse, refuseRoom } from './planner/refusal.js';
import { notChosen, type Room, startOf } from './planner/room.js';
import { roomFor, sparedInside } from './planner/siblings.js';
import { isBroken, type Settled, settleSoft } from './planner/soft.js';
import { arrange } from './planner/steps.js';
import { type Demands, isObstacle, type Removal, readWishes } from './planner/wishes.js';
import { listed, mb, seconds } from './planner/wording.js';

/**
 * Plans the steps that make the target true. Pure; equal inputs give equal plans, in whatever order they list
 * tenants and devices. A target that is true already gives a plan without steps (M9).
 *
 * A GPU's budget is total − reserve − what no tenant of ours holds: strangers, memory not proven free yet, and what
 * nobody explains (P4). No step's peak exceeds it. A GPU whose reading is missing or older than 5 s, or that is
 * quarantined, takes nothing new (law 1). Frees come before loads; before a model's load an embedder that has to go
 * to the CPU has gone (M7). Room is made by the cheapest sufficient set of tenants that are not wished for, not
 * pinned, not in use and not above the target's priority (P5); without one the plan is refused with figures (M18).
 */
export function planResidency(observed: HostObservation, target: Target, policy: HostPolicy): PlanResult {
  const host = viewHost(observed, policy);
  const { because } = target;
  const demands = readWishes(host, target);
  if (isObstacle(demands)) {
    const neededMb = target.asked === undefined ? null : (host.tenants.get(target.asked)?.tenant.chargeMb ?? null);
    return { kind: 'refusal', refusal: refuse(host, demands, neededMb), because, rejected: [] };
  }
  // Soft tenants are counted on to stay. Each round takes at least one of them out, so the rounds are few.
  const leaving = new Set(demands.soft.filter(isBroken).map(({ view }) => view.id));
  for (;;) {
    const room = roomFor(host, demands, target, leaving);
    if (room === null) {
      const start = startOf(host, demands, target, leaving);
      const inside = sparedInside(host, demands, target, leaving);
      const rejected = [...demands.notes, ...notChosen(start, new Set())];
      return { kind: 'refusal', refusal: refuseRoom(host, start, target, inside), because, rejected };
    }
    const wished = demands.removals.filter(({ view }) => !room.staysOnCpu.includes(view));
    const removals = [...wished, ...room.victims.map((view) => victim(view, room))];
    const views = [...removals.map(({ view }) => view), ...room.yielding];
    const gone = withInner(host, [...leaving, ...views.map(({ id }) => id)]);
    const settled = settleSoft(demands.soft, { host, target, room, gone });
    if (!Array.isArray(settled)) return planOf(host, demands, room, removals, settled, because);
    for (const id of settled) leaving.add(id);
  }
}

function planOf(
  host: HostView,
  demands: Demands,
  room: Room,
  removals: Removal[],
  settled: Settled,
  because: string,
): PlanResult {
  const all = [...removals, ...settled.removals];
  const ending = new Set(all.flatMap(({ view }) => view.inner));
  const { steps, expectedMs } = arrange(host, {
    // What ends with its service is not unloaded beside it.
    removals: all.filter(({ view }) => !ending.has(view)),
    placed: [...room.placed, ...settled.placed],
    confirms: demands.confirms,
    cpuLoads: [...demands.cpuLoads, ...settled.cpuLoads],
    because,
  });
  const onCpu = room.staysOnCpu.map(({ id }) => ({
    tenant: id,
    reason: 'stays in system memory: no room for it whole',
  }));
  return {
    kind: 'plan',
    steps,
    because,
    displaced: room.victims.map((view) => view.id).sort(byText),
    rejected: [...demands.notes, ...onCpu, ...room.rejected, ...settled.rejected],
    expectedMs,
  };
}

function victim(view: Room['victims'][number], { placed }: Room): Removal {
  const { kind, priority, idleForMs, loadMs } = view.tenant;
  const forWhom = listed(placed.map(({ need }) => `${need.view.id} (${mb(need.peakMb)})`));
  const idle = idleForMs === null ? '' : `, idle for ${seconds(idleForMs)}`;
  const back = kind === 'embedder' ? 'it works on the CPU meanwhile' : `${seconds(loadMs)} to load again`;
  const why = `makes room for ${forWhom}: the cheapest that suffices, priority ${priority}${idle}, ${back}`;
  return { view, kind: kind === 'embedder' ? 'to-cpu' : 'unload', why };
}

/** True when the observation is what the target wants: nothing is left to do. */
export function reachedTarget(observed: HostObservation, target: Target, policy: HostPolicy): boolean {
  const plan = planResidency(observed, target, policy);
  return plan.kind === 'plan' && plan.steps.length === 0;
}

/** How full one GPU is at the most while one step runs, strangers included. */
export interface StepPeak {
  step: string;
  device: string;
  label: string;
  peakMb: number;
  totalMb: number | null;
}

/** The peaks of a plan, step by step and GPU by GPU; a refusal has none. */
export function planPeaks(observed: HostObservation, plan: PlanResult): StepPeak[] {
  if (plan.kind === 'refusal') return [];
  const gpus = observed.devices.filter((device) => device.id !== CPU).sort((a, b) => byText(a.id, b.id));
  return plan.steps.flatMap((step) =>
    gpus.flatMap((gpu) => {
      const peakMb = step.peakMb[gpu.id];
      if (peakMb === undefined) return [];
      return [{ step: step.id, device: gpu.id, label: labelOf(gpu, gpus), peakMb, totalMb: gpu.totalMb }];
    }),
  );
}
