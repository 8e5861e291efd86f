/** What outlives an agent: one card with a desktop, one model, CLIP, services, and the record of who did what. */
import { CPU, EMBEDDER, modelTenant, serviceTenant } from '../../src/contracts/names.js';
import type { HostPolicy } from '../../src/contracts/policy.js';
import type { DeviceObservation, HostObservation, TenantObservation } from '../../src/contracts/residency.js';
import { PHASES, SERVICES, type ServiceState, Services } from './services.js';

export const GPU = 'GPU-scripted';
export const MODEL = 'qwen3-vl:8b';
export const VLM = modelTenant(MODEL);
export const CARD_MB = 24_564;
const DESKTOP_MB = 800;
const VLM_MB = 10_752;
const CLIP_MB = 500;
export const IDLE_SECONDS = 300;

export type EffectKind = 'load' | 'unload' | 'move' | 'start' | 'stop';

/** One line of the hardware's record; the order is that of the array. */
export interface EffectEntry {
  what: 'begin' | 'end' | 'broken-off';
  kind: EffectKind;
  tenant: string;
  runId: string;
  /** The epoch of the GPU that the effect was begun with. */
  epoch: number;
}

export class Hardware {
  vlm: 'absent' | 'loading' | 'loaded' = 'absent';
  /** The devices of the live embedder processes, oldest first. */
  embedders: string[] = [CPU];
  ollamaAnswers = true;
  readonly services = new Services();
  /** The most that the card has held at any time. */
  mostMb = 0;
  readonly record: EffectEntry[] = [];

  /** To be called when something has come onto the card. */
  weigh(): void {
    this.mostMb = Math.max(this.mostMb, this.usedMb());
  }

  private usedMb(): number {
    const onGpu = this.embedders.filter((device) => device === GPU).length;
    const ofServices = SERVICES.reduce((sum, { name }) => sum + this.services.heldMb(name), 0);
    return DESKTOP_MB + (this.vlm === 'absent' ? 0 : VLM_MB) + onGpu * CLIP_MB + ofServices;
  }

  /** A look at all that is there; what goes on by itself goes on with it. */
  observation(host: string, idleForMs: number): HostObservation {
    const clip = this.embedders[0] ?? CPU;
    const usedMb = this.usedMb();
    const services = SERVICES.map((policy) => this.service(policy));
    for (const { name } of SERVICES) this.services.looked(name);
    return {
      host,
      at: new Date(0).toISOString(),
      devices: [
        device({ id: GPU, name: 'a scripted card', totalMb: CARD_MB, usedMb, foreignMb: DESKTOP_MB }),
        device({}),
      ],
      tenants: [
        tenant({
          id: VLM,
          state: this.ollamaAnswers ? (this.vlm === 'loaded' ? 'resident' : 'absent') : 'unknown',
          holdings: this.vlm === 'loaded' ? [{ device: GPU, mb: VLM_MB }] : [],
          chargeMb: VLM_MB,
          peakMb: VLM_MB,
          idleForMs: this.vlm === 'loaded' ? idleForMs : null,
        }),
        tenant({
          id: EMBEDDER,
          kind: 'embedder',
          driver: 'clip',
          state: 'resident',
          holdings: [{ device: clip, mb: clip === CPU ? 0 : CLIP_MB }],
          chargeMb: CLIP_MB,
          peakMb: CLIP_MB,
          priority: 40,
          allowCpu: true,
        }),
        ...services,
      ],
      drivers: [
        {
          id: 'ollama',
          available: this.ollamaAnswers,
          reason: this.ollamaAnswers ? null : 'connection refused',
          placement: 'observed',
          version: '0.6.5',
        },
        { id: 'clip', available: true, reason: null, placement: 'chosen', version: null },
        { id: 'native', available: true, reason: null, placement: 'chosen', version: null },
      ],
      simulated: true,
    };
  }

  private service({ name, declaredMb, priority }: (typeof SERVICES)[number]): TenantObservation {
    const state = this.services.stateOf(name);
    return tenant({
      id: serviceTenant(name),
      kind: 'service',
      driver: 'native',
      state: SHOWN[state],
      holdings: state === 'absent' ? [] : [{ device: GPU, mb: this.services.heldMb(name) }],
      chargeMb: declaredMb,
      peakMb: declaredMb,
      priority,
    });
  }
}

/** As the agent shows them. */
const SHOWN: Record<ServiceState, TenantObservation['state']> = {
  absent: 'absent',
  starting: 'loading',
  ready: 'resident',
  left: 'unloading',
};

const device = (change: Partial<DeviceObservation>): DeviceObservation => ({
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
  source: 'simulated',
  ...change,
});

const tenant = (change: Partial<TenantObservation> & Pick<TenantObservation, 'id'>): TenantObservation => ({
  kind: 'model',
  driver: 'ollama',
  state: 'absent',
  proven: true,
  holdings: [],
  chargeMb: 0,
  chargeSource: 'simulated',
  peakMb: 0,
  uses: 0,
  idleForMs: null,
  residentForMs: null,
  loadMs: 4_000,
  pinned: false,
  priority: 50,
  allowCpu: false,
  configured: true,
  ...change,
});

export const policyOf = (host: string): HostPolicy => ({
  maxLoadRetries: 3,
  host,
  reserveMb: 0,
  vlmModel: MODEL,
  models: [
    {
      name: MODEL,
      declaredMb: VLM_MB,
      priority: 50,
      pinned: false,
      allowCpu: false,
      idleTimeoutSeconds: IDLE_SECONDS,
      loadTimeoutSeconds: 30,
      unloadTimeoutSeconds: 5,
    },
  ],
  embedder: { model: 'ViT-B-32', declaredMb: CLIP_MB, priority: 40, minFreeMb: 1_024, moveTimeoutSeconds: 30 },
  services: SERVICES,
  phases: PHASES,
  modes: {
    idle: { wishes: {} },
    recording: { wishes: { [VLM]: { place: 'gpu' }, [EMBEDDER]: { place: 'cpu' } } },
    autopilot: {
      wishes: { [VLM]: { place: 'absent' }, [EMBEDDER]: { place: 'gpu-if-room', minFreeMb: 1_024, notBeside: [VLM] } },
    },
  },
  vramEventThresholdMb: 100,
  degradedRetrySeconds: 30,
  reconcileSeconds: 300,
});
