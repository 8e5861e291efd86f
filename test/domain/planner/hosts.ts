/** Observations and policies for the planner's tests, with the figures of set-up M: one 24,564 MB card. */
import { CPU, EMBEDDER, modelTenant } from '../../../src/contracts/names.js';
import type { Intents } from '../../../src/contracts/operation.js';
import type { PlanResult, PlanStep, Refusal } from '../../../src/contracts/plan.js';
import type { HostPolicy, ModelPolicy } from '../../../src/contracts/policy.js';
import type {
  DeviceObservation,
  DriverObservation,
  HostObservation,
  Target,
  TenantObservation,
  Wish,
} from '../../../src/contracts/residency.js';

export const GPU = 'GPU-4090';
export const VLM = modelTenant('qwen3-vl:8b');
export const VLM_MB = 10752;
export const CLIP_MB = 500;
export const CARD_MB = 24564;
export const DESKTOP_MB = 800;

export const gpu = (change: Partial<DeviceObservation> = {}): DeviceObservation => ({
  id: GPU,
  name: 'NVIDIA GeForce RTX 4090',
  totalMb: CARD_MB,
  usedMb: DESKTOP_MB,
  foreignMb: DESKTOP_MB,
  utilizationPercent: 3,
  temperatureC: 45,
  sampleAgeMs: 100,
  health: 'ok',
  problem: null,
  quarantine: null,
  reclaimingMb: 0,
  source: 'measured',
  ...change,
});

export const cpu: DeviceObservation = gpu({ id: CPU, name: 'CPU', totalMb: 65536, usedMb: 8000, foreignMb: 8000 });

export const tenant = (id: string, change: Partial<TenantObservation> = {}): TenantObservation => ({
  id,
  kind: 'model',
  driver: 'ollama',
  state: 'absent',
  proven: true,
  holdings: [],
  chargeMb: 4000,
  chargeSource: 'declared',
  peakMb: change.chargeMb ?? 4000,
  uses: 0,
  idleForMs: null,
  residentForMs: null,
  loadMs: 8000,
  pinned: false,
  priority: 50,
  allowCpu: false,
  configured: true,
  ...change,
});

export const vlm = (change: Partial<TenantObservation> = {}): TenantObservation =>
  tenant(VLM, { chargeMb: VLM_MB, loadMs: 12000, ...change });

export const clip = (change: Partial<TenantObservation> = {}): TenantObservation =>
  tenant(EMBEDDER, {
    kind: 'embedder',
    driver: 'clip',
    state: 'resident',
    holdings: [{ device: CPU, mb: CLIP_MB }],
    chargeMb: CLIP_MB,
    loadMs: 2000,
    ...change,
  });

/** There, whole, and idle for a minute. */
export const on = (mb: number, device = GPU): Partial<TenantObservation> => ({
  state: 'resident',
  holdings: [{ device, mb }],
  idleForMs: 60_000,
  residentForMs: 90_000,
});

export const drivers = (change: Partial<DriverObservation> = {}): DriverObservation[] => [
  { id: 'ollama', available: true, reason: null, placement: 'observed', version: '0.6.5', ...change },
  { id: 'clip', available: true, reason: null, placement: 'chosen', version: null },
  { id: 'native', available: true, reason: null, placement: 'chosen', version: null },
];

/** Adds what the tenants hold to what each GPU has in use. */
export function host(
  tenants: TenantObservation[],
  devices: DeviceObservation[] = [gpu()],
  change: Partial<HostObservation> = {},
): HostObservation {
  const used = (device: DeviceObservation): number =>
    tenants.flatMap((t) => t.holdings).reduce((mb, holding) => mb + (holding.device === device.id ? holding.mb : 0), 0);
  return {
    host: 'desk',
    at: '2025-01-01T00:00:00.000Z',
    devices: [
      ...devices.map((device) => ({ ...device, usedMb: device.usedMb === null ? null : device.usedMb + used(device) })),
      cpu,
    ],
    tenants,
    drivers: drivers(),
    simulated: false,
    ...change,
  };
}

export const CLIP_WISH: Wish = { place: 'gpu-if-room', minFreeMb: 1024, notBeside: [VLM] };

const model = (name: string, change: Partial<ModelPolicy> = {}): ModelPolicy => ({
  name,
  declaredMb: 4000,
  priority: 50,
  pinned: false,
  allowCpu: false,
  idleTimeoutSeconds: 300,
  loadTimeoutSeconds: 30,
  unloadTimeoutSeconds: 5,
  ...change,
});

export const policy = (change: Partial<HostPolicy> = {}): HostPolicy => ({
  host: 'desk',
  reserveMb: 512,
  vlmModel: 'qwen3-vl:8b',
  models: [model('qwen3-vl:8b', { declaredMb: VLM_MB }), model('llava:7b'), model('tiny', { priority: 10 })],
  embedder: { model: 'ViT-B-32', declaredMb: CLIP_MB, priority: 50, minFreeMb: 1024, moveTimeoutSeconds: 10 },
  services: [],
  phases: [],
  modes: {
    idle: { wishes: {} },
    recording: { wishes: { [VLM]: { place: 'gpu' }, [EMBEDDER]: { place: 'cpu' } } },
    autopilot: { wishes: { [VLM]: { place: 'absent' }, [EMBEDDER]: CLIP_WISH } },
  },
  maxLoadRetries: 3,
  vramEventThresholdMb: 100,
  degradedRetrySeconds: 30,
  reconcileSeconds: 300,
  ...change,
});

export const intents = (change: Partial<Intents> = {}): Intents => ({
  mode: 'idle',
  phase: null,
  embedderByHand: null,
  wanted: [],
  displaced: [],
  degradedReason: null,
  ...change,
});

export const target = (wishes: Record<string, Wish>, change: Partial<Target> = {}): Target => ({
  wishes,
  because: 'a test',
  priority: 100,
  ...change,
});

type Plan = Extract<PlanResult, { kind: 'plan' }>;

export function planOf(result: PlanResult): Plan {
  if (result.kind === 'refusal') throw new Error(`refused: ${result.refusal.code}: ${result.refusal.message}`);
  return result;
}

export function refusalOf(result: PlanResult): Refusal {
  if (result.kind === 'plan') throw new Error(`planned: ${JSON.stringify(inWords(result))}`);
  return result.refusal;
}

/** `s2 load model/x after s1`. */
export const inWords = (plan: Plan): string[] =>
  plan.steps.map((step) =>
    [step.id, step.kind, step.tenant, ...where(step), ...(step.after.length > 0 ? ['after', ...step.after] : [])].join(
      ' ',
    ),
  );

const where = (step: PlanStep): string[] => {
  if (step.kind === 'move') return ['to', step.to];
  return step.kind === 'load' && step.devices.every((device) => device === CPU) ? ['to', CPU] : [];
};
