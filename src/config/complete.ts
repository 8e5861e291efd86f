/** Settings → the configuration: the built-in modes, the VLM among the models, the machine's name. */
import { fullModelName, VLM_ALIAS } from './modelName.js';
import type { Config, ModeSettings, Settings } from './schema.js';

/** M1. `recording` gives the GPU to the VLM, `autopilot` to CLIP where there is room, `idle` forces nothing. */
export const BUILT_IN_MODES: Readonly<Record<string, ModeSettings>> = {
  idle: { models: {}, clip: 'keep' },
  recording: { models: { [VLM_ALIAS]: 'gpu' }, clip: 'cpu' },
  autopilot: { models: { [VLM_ALIAS]: 'absent' }, clip: 'gpu-if-room' },
};

/** MB of models whose charge is known beforehand (M2: about 10.5 GB). */
const KNOWN_VRAM_MB: Readonly<Record<string, number>> = { 'qwen3-vl:8b': 10_752 };

/** As `models: { <name>: {} }` would give them. */
const MODEL_DEFAULTS = { priority: 50, pinned: false, allow_cpu: false } as const;

export interface Completed {
  config: Config;
  /** Models whose `vram_mb` nobody said: their entry here has 0, and they must be reported. */
  withoutVram: string[];
}

export function complete(settings: Settings, hostName: string): Completed {
  const vlm = fullModelName(settings.vlm_model);
  const models = { [vlm]: MODEL_DEFAULTS, ...settings.models };
  const withoutVram: string[] = [];
  const priced: Config['models'] = {};
  for (const [name, model] of Object.entries(models)) {
    const declared = 'vram_mb' in model ? model.vram_mb : undefined;
    const vram_mb = declared ?? KNOWN_VRAM_MB[name];
    if (vram_mb === undefined) withoutVram.push(name);
    priced[name] = { ...model, vram_mb: vram_mb ?? 0 };
  }
  const config: Config = {
    ...settings,
    host: settings.host ?? hostName,
    vlm_model: vlm,
    ollama_endpoint: settings.ollama_endpoint.replace(/\/+$/, ''),
    models: priced,
    modes: { ...BUILT_IN_MODES, ...settings.modes },
  };
  return { config, withoutVram };
}
