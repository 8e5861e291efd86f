/** The observation as the planner reads it: sorted, per GPU in numbers, with a reason for whatever takes no part. */
import { CPU } from '../../contracts/names.js';
import type { HostPolicy } from '../../contracts/policy.js';
import type {
  DeviceObservation,
  DriverObservation,
  HostObservation,
  TenantObservation,
} from '../../contracts/residency.js';
import { countedAs } from './nesting.js';
import { seconds } from './wording.js';

/** A sample older than this says nothing any more (law 1). */
const MAX_SAMPLE_AGE_MS = 5000;

/** MB on each GPU, in the order of `HostView.gpus`. */
export type PerGpu = number[];

export interface Gpu {
  id: string;
  /** For people: the product's name, with the UUID where two are alike. */
  label: string;
  device: DeviceObservation;
  /** Total − reserve, MB; 0 while the total is unknown. */
  capacityMb: number;
  /** Held by no tenant: strangers, memory not proven free yet, and what nobody explains, MB. */
  baseMb: number;
  /** Why it takes nothing new, or null. */
  problem: { code: 'device-unknown' | 'device-quarantined'; reason: string } | null;
}

export interface TenantView {
  id: string;
  tenant: TenantObservation;
  driver: DriverObservation;
  onGpu: boolean;
  onCpu: boolean;
  /** What it holds by the reading, MB. */
  heldMb: PerGpu;
  /** What the budget counts for it: its whole charge, also where the reading shows less so far, MB. */
  committedMb: PerGpu;
  /** Why nothing can be done with it now, or null. */
  unavailable: string | null;
  /** The tenant that is charged for it too; null: it is charged by itself. */
  countedAs: string | null;
  /** What is inside it, and ends with it. */
  inner: TenantView[];
}

export interface HostView {
  gpus: Gpu[];
  tenants: Map<string, TenantView>;
  reserveMb: number;
}

export const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);

export function viewHost(observed: HostObservation, policy: HostPolicy): HostView {
  const devices = observed.devices.filter((device) => device.id !== CPU).sort((a, b) => byText(a.id, b.id));
  const tenants = [...observed.tenants]
    .sort((a, b) => byText(a.id, b.id))
    .map((tenant) => viewTenant(tenant, devices, observed));
  for (const view of tenants) nest(view, tenants);
  return {
    gpus: devices.map((device, index) => viewGpu(device, index, devices, tenants, policy)),
    tenants: new Map(tenants.map((view) => [view.id, view])),
    reserveMb: policy.reserveMb,
  };
}

function viewGpu(
  device: DeviceObservation,
  index: number,
  devices: DeviceObservation[],
  tenants: TenantView[],
  policy: HostPolicy,
): Gpu {
  const heldMb = tenants.reduce((total, view) => total + (view.heldMb[index] ?? 0), 0);
  const known = (device.foreignMb ?? 0) + device.reclaimingMb;
  return {
    id: device.id,
    label: labelOf(device, devices),
    device,
    capacityMb: device.totalMb === null ? 0 : device.totalMb - policy.reserveMb,
    baseMb: Math.max(known, (device.usedMb ?? 0) - heldMb),
    problem: problemOf(device),
  };
}

/** A GPU in a few words: its product's name, with the UUID where two are alike. */
export function labelOf(device: DeviceObservation, devices: DeviceObservation[]): string {
  const alike = devices.some((other) => other !== device && other.name === device.name);
  return alike || device.name === '' ? `${device.name} ${device.id}`.trim() : device.name;
}

function problemOf(device: DeviceObservation): Gpu['problem'] {
  if (device.quarantine !== null) return { code: 'device-quarantined', reason: device.quarantine };
  const unknown = (reason: string): Gpu['problem'] => ({ code: 'device-unknown', reason });
  if (device.health !== 'ok') return unknown(device.problem ?? `its health is ${device.health}`);
  if (device.totalMb === null || device.usedMb === null) return unknown(device.problem ?? 'its memory is not readable');
  if (device.sampleAgeMs > MAX_SAMPLE_AGE_MS) return unknown(`its last sample is ${seconds(device.sampleAgeMs)} old`);
  return null;
}

/** The outer is charged for all; of the reading, what is inside has its own part. */
function nest(outer: TenantView, tenants: TenantView[]): void {
  outer.inner = tenants.filter(({ tenant }) => tenant.inside === outer.id);
  for (const view of outer.inner.filter(({ countedAs: id }) => id === outer.id)) {
    view.committedMb = view.committedMb.map(() => 0);
    outer.heldMb = outer.heldMb.map((held, gpu) => Math.max(0, held - (view.heldMb[gpu] ?? 0)));
  }
}

/** What leaves with these tenants: what is inside them, too. */
export const withInner = (host: HostView, ids: Iterable<string>): Set<string> =>
  new Set([...ids].flatMap((id) => [id, ...(host.tenants.get(id)?.inner ?? []).map((inner) => inner.id)]));

function viewTenant(
  tenant: TenantObservation,
  devices: DeviceObservation[],
  { drivers, tenants }: HostObservation,
): TenantView {
  const driver = drivers.find((candidate) => candidate.id === tenant.driver) ?? notObserved(tenant.driver);
  const onGpu = tenant.holdings.some((holding) => holding.device !== CPU);
  const onCpu = tenant.holdings.some((holding) => holding.device === CPU);
  const heldMb = devices.map(() => 0);
  for (const { device, mb } of tenant.holdings) {
    const at = devices.findIndex(({ id }) => id === device);
    if (at >= 0) heldMb[at] = (heldMb[at] ?? 0) + mb;
  }
  return {
    id: tenant.id,
    tenant,
    driver,
    onGpu,
    onCpu,
    heldMb,
    committedMb: onCpu ? heldMb : committed(tenant, heldMb, devices),
    unavailable: unavailability(tenant, driver),
    countedAs: countedAs(tenant, tenants),
    inner: [],
  };
}

/**
 * A load that is under way may still grow to its peak; a model partly in system memory grows no more by itself. A lease has
 * what was promised to it on each GPU.
 */
function committed(tenant: TenantObservation, heldMb: PerGpu, devices: DeviceObservation[]): PerGpu {
  if (tenant.lease !== undefined) {
    const promised = (id: string): number => tenant.holdings.find(({ device }) => device === id)?.promisedMb ?? 0;
    return devices.map(({ id }, at) => Math.max(heldMb[at] ?? 0, promised(id)));
  }
  // It has all that it will have; its charge is what Ollama estimates, which is a little more.
  if (tenant.kind === 'model' && tenant.state === 'resident' && tenant.proven) return heldMb;
  const wholeMb = tenant.state === 'loading' ? Math.max(tenant.peakMb, tenant.chargeMb) : tenant.chargeMb;
  const totalMb = sum(heldMb);
  if (totalMb >= wholeMb) return heldMb;
  if (totalMb > 0) return heldMb.map((held) => Math.ceil((held * wholeMb) / totalMb));
  return devices.map((device) => (tenant.holdings.some((holding) => holding.device === device.id) ? wholeMb : 0));
}

function unavailability(tenant: TenantObservation, driver: DriverObservation): string | null {
  if (!driver.available) return `${driver.id} is not available${driver.reason === null ? '' : ` (${driver.reason})`}`;
  return tenant.state === 'unknown' ? `${driver.id} does not say whether ${tenant.id} is resident` : null;
}

const notObserved = (id: DriverObservation['id']): DriverObservation => ({
  id,
  available: false,
  reason: 'nothing is known of it',
  placement: 'observed',
  version: null,
});
