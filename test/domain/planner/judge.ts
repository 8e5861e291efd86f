/**
 * A host that carries plans out by its own rules: Ollama takes the GPU with the most room, whole, else spreads over
 * several. It shares no code with the planner, and judges it: what each GPU holds at the most, in any order of steps
 * that `after` allows, and what is where at the end.
 */
import { CPU } from '../../../src/contracts/names.js';
import type { PlanResult, PlanStep } from '../../../src/contracts/plan.js';
import type { HostObservation, TenantObservation } from '../../../src/contracts/residency.js';

type Amounts = Record<string, number>;

export interface Execution {
  /** The most that each GPU held while the step ran, by step and GPU, MB. */
  peaks: Record<string, Amounts>;
  /** What each load or move took on each GPU at the most, beyond what was there, MB. */
  takes: Record<string, Amounts>;
  after: HostObservation;
}

const total = (amounts: Amounts): number => Object.values(amounts).reduce((a, b) => a + b, 0);

/** What nobody of ours holds. */
export function baseOf(observed: HostObservation, gpu: string): number {
  const device = observed.devices.find((d) => d.id === gpu);
  const held = observed.tenants.reduce((mb, t) => mb + heldBy(t, gpu), 0);
  return Math.max((device?.foreignMb ?? 0) + (device?.reclaimingMb ?? 0), (device?.usedMb ?? 0) - held);
}

/** In proportion to what is free, as Ollama splits layers; no more than there is. */
function shared(wantedMb: number, free: Amounts): Amounts {
  const all = total(free);
  let left = Math.min(wantedMb, all);
  const amount = left;
  const result: Amounts = {};
  for (const gpu of Object.keys(free).sort()) {
    const part = all === 0 ? 0 : Math.min(left, free[gpu] ?? 0, Math.ceil((amount * (free[gpu] ?? 0)) / all));
    result[gpu] = part;
    left -= part;
  }
  return result;
}

const heldBy = (tenant: TenantObservation, gpu: string): number =>
  tenant.holdings.reduce((mb, holding) => mb + (holding.device === gpu ? holding.mb : 0), 0);

/**
 * What a tenant may grow to where it is: at least its charge, its peak while a load is under way. A model that has
 * answered has all that it will have.
 */
export function claimOf(tenant: TenantObservation, gpu: string): number {
  const held = heldBy(tenant, gpu);
  if (tenant.kind === 'model' && tenant.state === 'resident' && tenant.proven) return held;
  if (tenant.holdings.some((holding) => holding.device === CPU)) return held;
  const all = tenant.holdings.reduce((mb, holding) => mb + holding.mb, 0);
  const full = tenant.state === 'loading' ? Math.max(tenant.peakMb, tenant.chargeMb) : tenant.chargeMb;
  return all === 0 || full <= all ? held : Math.ceil((held * full) / all);
}

export const isUsable = (observed: HostObservation, id: string): boolean => {
  const device = observed.devices.find((d) => d.id === id);
  if (device === undefined || device.totalMb === null || device.usedMb === null) return false;
  return device.health === 'ok' && device.quarantine === null && device.sampleAgeMs <= 5000;
};

/**
 * Carries the plan out. Steps that may run side by side all start before any of them ends; among them `pick` says
 * which ends next.
 */
export function execute(
  observed: HostObservation,
  plan: Extract<PlanResult, { kind: 'plan' }>,
  reserveMb: number,
  pick: (count: number) => number,
): Execution {
  const gpus = observed.devices.filter((device) => device.id !== CPU).map((device) => device.id);
  const claims = new Map<string, Amounts>();
  for (const t of observed.tenants) claims.set(t.id, Object.fromEntries(gpus.map((id) => [id, claimOf(t, id)])));
  const extra = new Map<string, Amounts>();
  const landed = new Map<string, Amounts>();
  const onCpu = new Map<string, boolean>();
  const peaks: Record<string, Amounts> = {};
  const takes: Record<string, Amounts> = {};
  const done = new Set<string>();
  const running = new Set<PlanStep>();
  const byId = new Map(observed.tenants.map((t) => [t.id, t]));

  const level = (gpu: string): number =>
    baseOf(observed, gpu) +
    [...claims.values(), ...extra.values()].reduce((mb, amounts) => mb + (amounts[gpu] ?? 0), 0);
  const room = (gpu: string): number => {
    const capacity = (observed.devices.find((d) => d.id === gpu)?.totalMb ?? 0) - reserveMb;
    return isUsable(observed, gpu) ? capacity - level(gpu) : 0;
  };

  const land = (step: PlanStep, peakMb: number, chargeMb: number): { peak: Amounts; charge: Amounts } => {
    if (step.kind === 'move') return { peak: { [step.to]: peakMb }, charge: { [step.to]: chargeMb } };
    const there = claims.get(step.tenant) ?? {};
    // An attempt that died half-way goes on where it is.
    const own = gpus.filter((gpu) => (there[gpu] ?? 0) > 0);
    const candidates = own.length > 0 ? own : gpus.filter((gpu) => step.devices.includes(gpu));
    const free = Object.fromEntries(candidates.map((gpu) => [gpu, Math.max(0, room(gpu) + (there[gpu] ?? 0))]));
    const best = candidates.sort().reduce((a, b) => ((free[b] ?? 0) > (free[a] ?? 0) ? b : a), candidates[0] ?? '');
    const given = byId.get(step.tenant)?.givenGpus;
    if (own.length === 0 && given !== undefined) {
      // Nobody chooses among these: the worst for us is where it goes.
      const worst = given.reduce((a, b) => (room(b) < room(a) ? b : a));
      return { peak: { [worst]: peakMb }, charge: { [worst]: chargeMb } };
    }
    if (own.length === 0 && (free[best] ?? 0) >= peakMb)
      return { peak: { [best]: peakMb }, charge: { [best]: chargeMb } };
    return { peak: shared(peakMb, free), charge: shared(total(free) < peakMb ? peakMb : chargeMb, free) };
  };

  const begin = (step: PlanStep): void => {
    running.add(step);
    const t = byId.get(step.tenant);
    if (t === undefined || step.kind === 'unload' || (step.kind === 'move' && step.to === CPU)) return;
    // A probe takes nothing.
    if (step.kind === 'load' && step.confirms) {
      landed.set(step.id, claims.get(step.tenant) ?? {});
      return;
    }
    if (step.devices.every((device) => device === CPU)) {
      landed.set(step.id, {});
      onCpu.set(step.id, true);
      return;
    }
    const peakMb = Math.max(t.peakMb, t.chargeMb);
    const { peak, charge } = land(step, peakMb, t.chargeMb);
    landed.set(step.id, charge);
    onCpu.set(step.id, total(peak) < peakMb);
    const there = claims.get(step.tenant) ?? {};
    // Two embedder processes live at once during a move; a model's load takes over what it has.
    const more = Object.entries(peak).map(([gpu, mb]) => [
      gpu,
      step.kind === 'move' ? mb : Math.max(0, mb - (there[gpu] ?? 0)),
    ]);
    takes[step.id] = Object.fromEntries(more);
    extra.set(step.id, Object.fromEntries(more));
  };

  const end = (step: PlanStep): void => {
    running.delete(step);
    done.add(step.id);
    extra.delete(step.id);
    claims.set(step.tenant, landed.get(step.id) ?? {});
    if (step.kind === 'unload') claims.set(step.tenant, {});
  };

  const record = (): void => {
    for (const step of running) {
      const now = (peaks[step.id] ??= {});
      for (const gpu of gpus) now[gpu] = Math.max(now[gpu] ?? 0, level(gpu));
    }
  };

  while (done.size < plan.steps.length) {
    for (const step of plan.steps) {
      if (!done.has(step.id) && !running.has(step) && step.after.every((id) => done.has(id))) begin(step);
    }
    if (running.size === 0) throw new Error('no step can run: the plan has a circle');
    record();
    const next = [...running][pick(running.size)];
    if (next !== undefined) end(next);
  }
  return { peaks, takes, after: applied(observed, plan, claims, landed, onCpu, gpus) };
}

function applied(
  observed: HostObservation,
  plan: Extract<PlanResult, { kind: 'plan' }>,
  claims: Map<string, Amounts>,
  landed: Map<string, Amounts>,
  onCpu: Map<string, boolean>,
  gpus: string[],
): HostObservation {
  const tenants = observed.tenants.map((t): TenantObservation => {
    const last = plan.steps.filter((step) => step.tenant === t.id).at(-1);
    if (last === undefined) return t;
    if (last.kind === 'unload') {
      return { ...t, state: 'absent', holdings: [], idleForMs: null, residentForMs: null, uses: 0 };
    }
    if (last.kind === 'load' && last.confirms) return { ...t, proven: true };
    const held = Object.entries(claims.get(t.id) ?? {}).filter(([gpu, mb]) => gpus.includes(gpu) && mb > 0);
    const cpu = (last.kind === 'move' && last.to === CPU) || onCpu.get(last.id) === true || !landed.has(last.id);
    return {
      ...t,
      state: 'resident',
      proven: true,
      holdings: [...held.map(([device, mb]) => ({ device, mb })), ...(cpu ? [{ device: CPU, mb: t.chargeMb }] : [])],
      idleForMs: 0,
      residentForMs: 0,
    };
  });
  return {
    ...observed,
    tenants,
    devices: observed.devices.map((device) => {
      if (device.id === CPU || device.usedMb === null) return device;
      const held = tenants.reduce((mb, t) => mb + heldBy(t, device.id), 0);
      return { ...device, usedMb: baseOf(observed, device.id) + held };
    }),
  };
}
