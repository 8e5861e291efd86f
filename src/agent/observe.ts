/** The observation of a host, put together from what the agent's parts see. */
import type { GpuSample } from '../adapters/gpu/reader.js';
import { CPU, EMBEDDER, isModel, modelTenant, serviceTenant } from '../contracts/names.js';
import type { HostPolicy, ModelPolicy } from '../contracts/policy.js';
import type {
  DeviceObservation,
  DriverObservation,
  FigureSource,
  Holding,
  HostObservation,
  TenantObservation,
} from '../contracts/residency.js';
import { attributeModels, foreignMb, isGhost, mayBeOllamas, type VramProcess } from '../domain/attribution.js';
import { heldOnMb, serverOfOllama } from '../domain/planner/nesting.js';
import type { EmbedderSwitch } from './embedderSwitch.js';
import type { Gates } from './gates.js';
import type { Learned } from './learned.js';
import { gpusOf, observeServices } from './observeServices.js';
import type { ListedModel, OllamaWatch } from './ollamaWatch.js';
import type { Reclaims } from './reclaims.js';
import type { ServiceView } from './services.js';
import type { Uses } from './uses.js';

export interface ObservedParts {
  policy: HostPolicy;
  simulated: boolean;
  sample: GpuSample & { ageMs: number; stale: boolean };
  /** False where footprints are declared (P9). */
  measured: boolean;
  watch: OllamaWatch;
  embedder: EmbedderSwitch;
  reclaims: Reclaims;
  /** Why a GPU takes nothing new, or null. */
  quarantine: (gpu: string) => string | null;
  gates: Gates;
  /** What is promised to leases. */
  reservations: TenantObservation[];
  services: ServiceView[];
  /** Of the drivers that the services need: why one cannot be asked, or null. */
  serviceDrivers: { id: 'docker' | 'native'; problem: string | null }[];
  uses: Uses;
  learned: Learned;
  /** What an operation does with a tenant at this moment. */
  working: ReadonlyMap<string, 'loading' | 'unloading'>;
  /** Tenants whose last operation failed for good (M19). */
  errors: ReadonlyMap<string, string>;
}

/** A model that loads about this fast when nothing has been learned yet: MB a second. */
const LOAD_MB_A_SECOND = 2_500;
const EMBEDDER_START_MS = 2_000;
/**
 * Ollama loads a model only beside so much free memory (`cudaMinimumMemory`, 0.6.5): with less it evicts another model,
 * or puts a part into system memory, without a word.
 */
const OLLAMA_KEEPS_FREE_MB = 457;
/** Models that someone else loaded count as ordinary. */
const FOREIGN_MODEL_PRIORITY = 50;

export function observeHost(parts: ObservedParts): HostObservation {
  const models = observeModels(parts);
  const services = observeServices({ ...parts, models });
  const tenants = [...models, observeEmbedder(parts), ...services, ...parts.reservations];
  return {
    host: parts.policy.host,
    at: new Date().toISOString(),
    devices: observeDevices(parts, tenants),
    tenants,
    drivers: [
      ollamaDriver(parts),
      {
        id: 'clip',
        available: parts.embedder.part() !== 'missing',
        reason: parts.embedder.reason(),
        placement: 'chosen',
        version: null,
      },
      { id: 'leases', available: true, reason: null, placement: 'chosen', version: null },
      ...parts.serviceDrivers.map(({ id, problem }) => ({
        id,
        available: problem === null,
        reason: problem,
        placement: 'chosen' as const,
        version: null,
      })),
    ],
    simulated: parts.simulated,
  };
}

function ollamaDriver({ sample, watch, measured }: ObservedParts): DriverObservation {
  const driver = watch.driver();
  const listed = sample.stale ? null : sample.processes;
  // A list that is to come, or lost, may show it (law 1).
  const mayBeSeen = (measured && sample.gpus.length > 0) || driver.version !== null;
  const isSeen = listed === null ? mayBeSeen : listed.some((one) => mayBeOllamas(one));
  return driver.available || isSeen ? driver : { ...driver, unseen: true };
}

/** Which process holds which model, for proofs: tenant → pids. */
export function pidsOf(parts: Pick<ObservedParts, 'sample' | 'watch'>, tenant: string): number[] {
  return attribution(parts)[tenant]?.pids ?? [];
}

function attribution({ sample, watch }: Pick<ObservedParts, 'sample' | 'watch'>) {
  const models = watch
    .resident()
    .filter((listed) => !isCrashed({ sample, watch }, listed))
    .map(({ id, model: { sizeMb, vramMb }, proven }) => ({ id, sizeMb, vramMb, settled: proven }));
  const gpus = sample.gpus.map((gpu) => ({ id: gpu.uuid, usedMb: gpu.usedMb }));
  return attributeModels(models, gpus, processesOf(sample));
}

const processesOf = (sample: GpuSample): VramProcess[] | null =>
  sample.processes && sample.processes.map(({ uuid, ...process }) => ({ gpu: uuid, ...process }));

function observeModels(parts: ObservedParts): TenantObservation[] {
  const { policy, watch, reclaims, gates, uses, learned, working, errors } = parts;
  const canTell = watch.driver().available || watch.isOff();
  const server = serverOfOllama(policy);
  const attributed = attribution(parts);
  const resident = new Map(watch.resident().map((one) => [one.id, one]));
  const ids = new Set([...policy.models.map((model) => modelTenant(model.name)), ...resident.keys()]);
  for (const tenant of reclaims.tenants()) if (isModel(tenant)) ids.add(tenant);
  return [...ids].sort().map((id) => {
    const configured = policy.models.find((model) => modelTenant(model.name) === id);
    const listed = resident.get(id);
    const present = listed && !isCrashed(parts, listed) ? listed : undefined;
    const holdings = present ? (attributed[id]?.holdings ?? []) : reclaims.unproven(id);
    // Ollama loads it only into as much as it estimates, which is a little more than the driver then shows.
    const shownMb = sum(holdings.filter((holding) => holding.device !== CPU));
    const onGpus = shownMb === 0 ? 0 : Math.max(shownMb, Math.round(present?.model.vramMb ?? 0));
    const gpus = present ? gpusOf(holdings) : null;
    const known = learned.get(id, gpus, configured?.declaredMb);
    const measured = present !== undefined && onGpus > 0;
    const chargeMb = measured ? onGpus : (known.chargeMb ?? configured?.declaredMb ?? onGpus);
    return {
      id,
      kind: 'model',
      driver: 'ollama',
      state: stateOf(canTell, present !== undefined, holdings, working.get(id), errors.has(id)),
      proven: present?.proven ?? false,
      holdings,
      chargeMb,
      chargeSource: sourceOf(parts.simulated, measured, known.chargeMb),
      peakMb: Math.max(chargeMb + OLLAMA_KEEPS_FREE_MB, known.peakMb ?? 0),
      ...compared(configured?.declaredMb, measured ? onGpus : known.chargeMb),
      uses: present ? gates.claims(id) : gates.uses(id),
      idleForMs: present ? uses.idleFor(id) : null,
      residentForMs: present ? present.residentForMs : null,
      loadMs: known.loadMs ?? 1_000 + Math.round((chargeMb / LOAD_MB_A_SECOND) * 1_000),
      ...learned.times(id, gpus),
      pinned: configured?.pinned ?? false,
      priority: configured?.priority ?? FOREIGN_MODEL_PRIORITY,
      allowCpu: configured?.allowCpu ?? true,
      configured: configured !== undefined,
      ...(server === null ? {} : { inside: serviceTenant(server.name) }),
    };
  });
}

/** Ollama lists a model from the beginning of its load, so memory that is not there yet counts for a while as coming. */
const COMING_MS = 60_000;

/** Ollama goes on listing a model whose runner has crashed; the driver knows better. */
function isCrashed(
  { sample, watch }: Pick<ObservedParts, 'sample' | 'watch'>,
  { id, model, residentForMs, proven }: ListedModel,
): boolean {
  if ((!proven && residentForMs < COMING_MS) || sample.stale) return false;
  const gpus = sample.gpus.map((gpu) => ({ id: gpu.uuid, usedMb: gpu.usedMb }));
  const ofOthers = watch.resident().flatMap((one) => (one.id === id || one.runner === null ? [] : [one.runner]));
  return isGhost(model.vramMb, gpus, processesOf(sample), ofOthers);
}

function stateOf(
  canTell: boolean,
  present: boolean,
  holdings: Holding[],
  working: 'loading' | 'unloading' | undefined,
  failed: boolean,
): TenantObservation['state'] {
  if (!canTell) return 'unknown';
  if (working !== undefined) return working;
  if (present) return 'resident';
  if (holdings.length > 0) return 'unloading';
  return failed ? 'error' : 'absent';
}

function observeEmbedder({ policy, embedder, sample, learned, reclaims, simulated }: ObservedParts): TenantObservation {
  const process = embedder.process();
  const known = learned.get(EMBEDDER, process?.gpu ? [process.gpu] : null, policy.embedder.declaredMb);
  const measured = sample.processes?.find((one) => one.pid === process?.pid)?.usedMb ?? null;
  const chargeMb = measured ?? known.chargeMb ?? policy.embedder.declaredMb;
  const holdings = process
    ? [{ device: process.gpu ?? CPU, mb: process.gpu === null ? 0 : chargeMb }, ...reclaims.unproven(EMBEDDER)]
    : reclaims.unproven(EMBEDDER);
  return {
    id: EMBEDDER,
    kind: 'embedder',
    driver: 'clip',
    state: process ? 'resident' : 'absent',
    proven: process !== null,
    holdings,
    chargeMb,
    chargeSource: sourceOf(simulated, measured !== null, known.chargeMb),
    peakMb: Math.max(chargeMb, known.peakMb ?? 0),
    ...compared(policy.embedder.declaredMb, measured ?? known.chargeMb),
    uses: embedder.uses(),
    idleForMs: null,
    residentForMs: process?.startedMsAgo ?? null,
    loadMs: known.loadMs ?? EMBEDDER_START_MS,
    pinned: false,
    priority: policy.embedder.priority,
    allowCpu: true,
    configured: true,
  };
}

function sourceOf(simulated: boolean, measured: boolean, learnedMb: number | undefined): FigureSource {
  if (measured) return simulated ? 'simulated' : 'measured';
  return learnedMb === undefined ? 'declared' : 'learned';
}

const compared = (declaredMb?: number, seenMb?: number): Pick<TenantObservation, 'declaredMb' | 'seenMb'> => ({
  ...(declaredMb === undefined ? {} : { declaredMb }),
  ...(seenMb === undefined ? {} : { seenMb }),
});

function observeDevices(parts: ObservedParts, tenants: TenantObservation[]): DeviceObservation[] {
  const { sample, quarantine, measured, simulated } = parts;
  const gpus = sample.gpus.map((gpu): DeviceObservation => {
    const held = heldOnMb(tenants, gpu.uuid);
    // P9: where nothing is measured, what vramflow has put there is all that is known to be used.
    const usedMb = measured ? gpu.usedMb : held;
    return {
      id: gpu.uuid,
      name: gpu.name,
      totalMb: gpu.totalMb,
      usedMb,
      foreignMb: foreignMb(usedMb, held),
      utilizationPercent: gpu.utilizationPercent,
      temperatureC: gpu.temperatureC,
      sampleAgeMs: measured ? Math.round(sample.ageMs) : 0,
      health: measured ? gpu.health : 'ok',
      problem: gpu.problem ?? sample.problem,
      quarantine: quarantine(gpu.uuid),
      // Memory that waits for its proof still counts as its tenant's holding.
      reclaimingMb: 0,
      source: measured ? (simulated ? 'simulated' : 'measured') : 'declared',
    };
  });
  return [...gpus, CPU_DEVICE];
}

/** System memory is not budgeted yet: a model there is slow, not in the way. */
const CPU_DEVICE: DeviceObservation = {
  id: CPU,
  name: 'CPU',
  totalMb: null,
  usedMb: null,
  foreignMb: null,
  utilizationPercent: null,
  temperatureC: null,
  sampleAgeMs: 0,
  health: 'ok',
  problem: null,
  quarantine: null,
  reclaimingMb: 0,
  source: 'measured',
};

const sum = (holdings: Holding[]): number => holdings.reduce((total, holding) => total + holding.mb, 0);

export const policyOf = (policy: HostPolicy, tenant: string): ModelPolicy | undefined =>
  policy.models.find((model) => modelTenant(model.name) === tenant);
