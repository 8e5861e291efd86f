/** What outlives an agent: one card with a desktop, one model, CLIP, and the record of who did what. */
import { CPU, EMBEDDER, modelTenant } from '../../src/contracts/names.js';
import type { HostPolicy } from '../../src/contracts/policy.js';
import type { DeviceObservation, HostObservation, TenantObservation } from '../../src/contracts/residency.js';

export const GPU = 'GPU-scripted';
export const MODEL = 'qwen3-vl:8b';
export const VLM = modelTenant(MODEL);
const CARD_MB = 24_564;
const DESKTOP_MB = 800;
const VLM_MB = 10_752;
const CLIP_MB = 500;
export const IDLE_SECONDS = 300;

export type EffectKind = 'load' | 'unload' | 'move';

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
  readonly record: EffectEntry[] = [];

  observation(host: string, idleForMs: number): HostObservation {
    const clip = this.embedders[0] ?? CPU;
    const usedMb = DESKTOP_MB + (this.vlm === 'loaded' ? VLM_MB : 0) + (clip === GPU ? CLIP_MB : 0);
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
      ],
      simulated: true,
    };
  }
}

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
  services: [],
  phases: [],
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
