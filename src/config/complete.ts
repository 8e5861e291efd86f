/** Settings → the configuration: the built-in modes, the VLM among the models, the machine's name. */
import type { KeyPath } from './keyPath.js';
import { fullModelName, VLM_ALIAS } from './modelName.js';
import { type Config, type ModeSettings, modelSchema, type Settings } from './schema.js';

/** M1. `recording` gives the GPU to the VLM, `autopilot` to CLIP where there is room, `idle` forces nothing. */
export const BUILT_IN_MODES: Readonly<Record<string, ModeSettings>> = {
  idle: { models: {}, clip: 'keep' },
  recording: { models: { [VLM_ALIAS]: 'gpu' }, clip: 'cpu' },
  autopilot: { models: { [VLM_ALIAS]: 'absent' }, clip: 'gpu-if-room' },
};

/** MB of models whose charge is known beforehand (M2: about 10.5 GB). */
const KNOWN_VRAM_MB: Readonly<Record<string, number>> = { 'qwen3-vl:8b': 10_752 };

export interface Completed {
  config: Config;
  /** Models whose `vram_mb` nobody said, and the key that names them. Their entry here has 0: to be reported. */
  withoutVram: { model: string; namedBy: KeyPath }[];
}

export function complete(settings: Settings, hostName: string): Completed {
  const vlm = fullModelName(settings.vlm_model);
  const models = { [vlm]: modelSchema.parse({}), ...settings.models };
  const withoutVram: Completed['withoutVram'] = [];
  const priced: Config['models'] = {};
  for (const [name, model] of Object.entries(models)) {
    const vram_mb = model.vram_mb ?? KNOWN_VRAM_MB[name];
    if (vram_mb === undefined) {
      withoutVram.push({
        model: name,
        namedBy: Object.hasOwn(settings.models, name) ? ['models', name] : ['vlm_model'],
      });
    }
    priced[name] = { ...model, vram_mb: vram_mb ?? 0 };
  }
  const { host = hostName, ...rest } = settings;
  const config: Config = {
    host,
    ...rest,
    vlm_model: vlm,
    ollama_endpoint: settings.ollama_endpoint.replace(/\/+$/, ''),
    models: priced,
    modes: { ...BUILT_IN_MODES, ...settings.modes },
  };
  return { config, withoutVram };
}
