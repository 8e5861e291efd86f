/** The configuration in the words that decisions use. Pure. */
import { EMBEDDER, modelTenant, serviceTenant } from '../contracts/names.js';
import type { HostPolicy, ModelPolicy, ModePolicy, PhasePolicy, ServicePolicy } from '../contracts/policy.js';
import type { Wish } from '../contracts/residency.js';
import { modelOf } from './crossChecks.js';
import type { Config, ModeSettings, ServiceSettings } from './schema.js';

export function toHostPolicy(config: Config): HostPolicy {
  return {
    host: config.host,
    maxLoadRetries: config.max_load_retries,
    reserveMb: config.reserve_mb,
    vlmModel: config.vlm_model,
    models: Object.entries(config.models).map(([name, model]) => toModelPolicy(config, name, model)),
    embedder: {
      model: config.clip_model,
      declaredMb: config.clip.vram_mb,
      priority: config.clip.priority,
      minFreeMb: config.vram_threshold_for_clip_gpu_mb,
      moveTimeoutSeconds: config.clip.move_timeout_seconds,
    },
    services: Object.entries(config.services).map(([name, service]) => toServicePolicy(name, service)),
    phases: Object.entries(config.phases).map(([name, phase]) => toPhasePolicy(name, phase)),
    modes: Object.fromEntries(Object.entries(config.modes).map(([name, mode]) => [name, toModePolicy(config, mode)])),
    vramEventThresholdMb: config.vram_event_threshold_mb,
    degradedRetrySeconds: config.degraded_retry_seconds,
    reconcileSeconds: config.reconcile_seconds,
  };
}

function toModelPolicy(config: Config, name: string, model: Config['models'][string]): ModelPolicy {
  const idle = model.idle_timeout_seconds ?? config.idle_timeout_seconds;
  return {
    name,
    declaredMb: model.vram_mb,
    priority: model.priority,
    pinned: model.pinned,
    allowCpu: model.allow_cpu,
    idleTimeoutSeconds: idle === 'never' ? null : idle,
    loadTimeoutSeconds: model.load_timeout_seconds ?? config.load_timeout_seconds,
    unloadTimeoutSeconds: model.unload_timeout_seconds ?? config.unload_timeout_seconds,
  };
}

function toServicePolicy(name: string, service: ServiceSettings): ServicePolicy {
  return {
    name,
    driver: service.run ? 'native' : 'docker',
    declaredMb: service.vram_mb,
    ...(service.serves === undefined ? {} : { serves: service.serves }),
    priority: service.priority,
    pinned: service.pinned,
    startTimeoutSeconds: service.start_timeout_seconds,
    stopTimeoutSeconds: service.stop_timeout_seconds,
  };
}

function toPhasePolicy(name: string, phase: Config['phases'][string]): PhasePolicy {
  const { number, services } = Array.isArray(phase) ? { number: undefined, services: phase } : phase;
  const ownNumber = /^\d+$/.test(name) ? Number(name) : null;
  return { name, number: number ?? ownNumber, services: services.map(serviceTenant) };
}

function toModePolicy(config: Config, mode: ModeSettings): ModePolicy {
  const wishes: Record<string, Wish> = {};
  for (const [written, place] of Object.entries(mode.models)) {
    wishes[modelTenant(modelOf(config, written))] = { place };
  }
  const clip = clipWish(config, mode.clip);
  if (clip) wishes[EMBEDDER] = clip;
  return { wishes };
}

/** `keep` is no wish: CLIP stays where it is. */
function clipWish(config: Config, place: ModeSettings['clip']): Wish | null {
  switch (place) {
    case 'keep':
      return null;
    case 'gpu-if-room':
      // M5: not beside a VLM that is loaded or loading.
      return {
        place,
        minFreeMb: config.vram_threshold_for_clip_gpu_mb,
        notBeside: [modelTenant(config.vlm_model)],
      };
    case 'gpu':
    case 'cpu':
      return { place };
  }
}
