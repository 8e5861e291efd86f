/** Services as tenants: what their processes hold, and what they are charged. */
import type { GpuSample } from '../adapters/gpu/reader.js';
import { CPU, serviceTenant } from '../contracts/names.js';
import type { HostPolicy, ServicePolicy } from '../contracts/policy.js';
import type { FigureSource, Holding, TenantObservation, TenantState, Trouble } from '../contracts/residency.js';
import { holdingInner } from '../domain/planner/nesting.js';
import type { Learned } from './learned.js';
import type { Reclaims } from './reclaims.js';
import type { ServiceView } from './services.js';

export interface ServiceParts {
  policy: HostPolicy;
  simulated: boolean;
  /** False where footprints are declared (P9). */
  measured: boolean;
  sample: GpuSample;
  services: ServiceView[];
  /** Some are inside a service. */
  models: TenantObservation[];
  reclaims: Reclaims;
  learned: Learned;
  working: ReadonlyMap<string, 'loading' | 'unloading'>;
  errors: ReadonlyMap<string, string>;
}

/** Until a start has been measured. */
const START_MS = 10_000;

export const observeServices = (parts: ServiceParts): TenantObservation[] =>
  parts.policy.services.map((policy) => observeService(parts, policy));

function observeService(parts: ServiceParts, policy: ServicePolicy): TenantObservation {
  const { reclaims, learned, working, errors, services, simulated, measured } = parts;
  const id = serviceTenant(policy.name);
  const view = services.find(({ name }) => name === policy.name);
  const runs = view?.sight.state === 'running';
  const inner = parts.models.filter(({ inside }) => inside === id);
  const holdings = runs && view ? holdingInner(holdingsOf(parts, policy, view), inner) : reclaims.unproven(id);
  const gpus = runs ? gpusOf(holdings) : null;
  const observedMb = measured ? onGpus(holdings) : 0;
  // It may fill at its first use: what it was seen to take, or is said to, counts from the start.
  const seenMb = Math.max(observedMb, learned.mostMb(id, policy.declaredMb));
  const chargeMb = policy.declaredMb === 0 ? 0 : Math.max(policy.declaredMb, seenMb);
  const state = stateOf(view, holdings, working.get(id), errors.has(id));
  const given = view === undefined || policy.declaredMb === 0 ? null : givenGpus(parts.sample, view);
  const trouble = view === undefined ? null : troubleOf(view, state, errors.get(id));
  return {
    id,
    kind: 'service',
    driver: policy.driver,
    state,
    proven: true,
    holdings,
    chargeMb,
    chargeSource: sourceOf(chargeMb, policy.declaredMb, observedMb, simulated),
    peakMb: chargeMb,
    declaredMb: policy.declaredMb,
    ...(seenMb === 0 ? {} : { seenMb }),
    uses: 0,
    idleForMs: null,
    residentForMs: runs ? (view?.sight.runningForMs ?? null) : null,
    loadMs: learned.get(id, gpus).loadMs ?? START_MS,
    ...learned.times(id, gpus),
    pinned: policy.pinned,
    priority: policy.priority,
    allowCpu: false,
    configured: true,
    ...(given === null ? {} : { givenGpus: given }),
    ...(trouble === null ? {} : { trouble }),
  };
}

function stateOf(
  view: ServiceView | undefined,
  holdings: Holding[],
  working: 'loading' | 'unloading' | undefined,
  failed: boolean,
): TenantState {
  if (view === undefined || view.sight.state === 'unknown') return 'unknown';
  if (working !== undefined) return working;
  if (view.sight.state === 'running') {
    switch (view.health.state) {
      case 'starting':
        return 'loading';
      case 'stopping':
        return 'unloading';
      case 'unhealthy':
      case 'failed':
        return 'unhealthy';
      default:
        return 'resident';
    }
  }
  if (holdings.length > 0) return 'unloading';
  // Held back after its death: it failed, until it may be started again.
  return failed || view.heldBack !== null ? 'error' : 'absent';
}

function troubleOf({ heldBack, health }: ServiceView, state: TenantState, failed: string | undefined): Trouble | null {
  if (state !== 'unhealthy' && state !== 'error') return null;
  return heldBack ?? { reason: failed ?? health.detail ?? 'it failed', nextTryAt: null };
}

/** What the driver lists for its processes; where it lists none yet, the GPUs that it was started on. */
function holdingsOf(parts: ServiceParts, policy: ServicePolicy, view: ServiceView): Holding[] {
  if (policy.declaredMb === 0) return [{ device: CPU, mb: 0 }];
  const { sample, measured } = parts;
  const pids = new Set(view.sight.pids);
  const listed = new Map<string, number>();
  for (const process of sample.processes ?? []) {
    if (!pids.has(process.pid)) continue;
    listed.set(process.uuid, (listed.get(process.uuid) ?? 0) + (process.usedMb ?? 0));
  }
  const given = givenGpus(sample, view);
  const isToldWhere = given === null && view.gpus !== null;
  const placed = isToldWhere || listed.size === 0 ? (given ?? view.gpus ?? placeUnknown(sample)) : [];
  for (const gpu of placed) if (!listed.has(gpu)) listed.set(gpu, 0);
  const share = Math.ceil(policy.declaredMb / Math.max(1, listed.size));
  const holdings = [...listed].map(([device, mb]) => ({ device, mb: measured ? mb : share }));
  return holdings.length > 0 ? holdings : [{ device: CPU, mb: 0 }];
}

/** The GPUs that others gave it; all where its own are not known, or not there. Null: it goes where it is told. */
function givenGpus(sample: GpuSample, { sight: { given } }: ServiceView): string[] | null {
  if (given === undefined || sample.gpus.length === 0) return null;
  const own = sample.gpus.filter(
    ({ uuid, index }) => given !== 'all' && given.some((id) => id === String(index) || uuid.startsWith(id)),
  );
  return (own.length > 0 ? own : sample.gpus).map(({ uuid }) => uuid);
}

/** One that nobody here started and that the list does not show: it counts on the fullest GPU (law 1). */
function placeUnknown(sample: GpuSample): string[] {
  const fullest = [...sample.gpus].sort((a, b) => (b.usedMb ?? 0) - (a.usedMb ?? 0) || a.uuid.localeCompare(b.uuid))[0];
  return fullest === undefined ? [] : [fullest.uuid];
}

function sourceOf(chargeMb: number, declaredMb: number, observedMb: number, simulated: boolean): FigureSource {
  if (chargeMb === declaredMb) return 'declared';
  if (chargeMb === observedMb) return simulated ? 'simulated' : 'measured';
  return 'learned';
}

/** Without the CPU. */
export const gpusOf = (holdings: Holding[]): string[] =>
  holdings.map(({ device }) => device).filter((device) => device !== CPU);

export const onGpus = (holdings: Holding[]): number =>
  holdings.reduce((sum, { device, mb }) => sum + (device === CPU ? 0 : mb), 0);
