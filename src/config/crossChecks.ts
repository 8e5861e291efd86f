/** What one key alone cannot tell: whether the configuration makes sense as a whole. Pure. */
import type { Completed } from './complete.js';
import type { KeyPath } from './keyPath.js';
import { isLoopback } from './loopback.js';
import { VLM_ALIAS } from './modelName.js';
import { nearest } from './nearest.js';
import { type Config, ID_PATTERN, type ModeSettings } from './schema.js';
import { checkServices } from './serviceChecks.js';

export interface Contradiction {
  path: KeyPath;
  /** What it says is missing. */
  about?: KeyPath;
  message: string;
  remedy: string;
}

export function crossChecks({ config, withoutVram }: Completed): Contradiction[] {
  return [
    ...checkHost(config),
    ...withoutVram.map((missing) => missingVram(config, missing)),
    ...checkPorts(config),
    ...checkDoors(config),
    ...checkServices(config),
    ...Object.entries(config.modes).flatMap(([name, mode]) => [
      ...checkModels(config, name, mode),
      ...checkRoom(config, name, mode),
    ]),
  ];
}

/** A host name that comes from the machine has not been checked yet. */
function checkHost(config: Config): Contradiction[] {
  if (ID_PATTERN.test(config.host)) return [];
  const message = `is ${JSON.stringify(config.host)}, this machine's hostname, which cannot be part of a workflow id.`;
  return [{ path: ['host'], message, remedy: 'Set host to a name of letters, digits, dots and dashes.' }];
}

function missingVram(config: Config, { model, namedBy }: Completed['withoutVram'][number]): Contradiction {
  if (model === VLM_ALIAS) {
    const message = 'is the short name for vlm_model, and only modes know it.';
    return { path: namedBy, message, remedy: `Write the model's own name, ${config.vlm_model}.` };
  }
  return {
    path: namedBy,
    about: ['models', model],
    message: `names ${model}, and nothing tells how much VRAM it takes.`,
    remedy: `Set vram_mb under ${model} in models to the MB that \`ollama ps\` shows while it is loaded.`,
  };
}

function checkPorts(config: Config): Contradiction[] {
  const { address, port, ui_port } = config.temporal;
  if (address !== undefined || port !== ui_port) return [];
  const message = `is ${ui_port}, which temporal.port has already.`;
  return [{ path: ['temporal', 'ui_port'], message, remedy: 'Give the two different ports.' }];
}

/** A token, and names of loopback, are no protection against another machine: who calls from there writes any name. */
function checkDoors({ agent, gateway }: Config): Contradiction[] {
  return Object.entries({ agent, gateway }).flatMap(([door, { listen }]) => {
    if (listen === undefined) return [];
    const cut = listen.lastIndexOf(':');
    if (isLoopback(listen.slice(0, cut))) return [];
    const message = `is ${listen}, which other machines reach: it answers on loopback only.`;
    const remedy = `Write 127.0.0.1${listen.slice(cut)}; from another machine, come through a tunnel (SSH, WireGuard).`;
    return [{ path: [door, 'listen'], message, remedy }];
  });
}

function checkModels(config: Config, modeName: string, mode: ModeSettings): Contradiction[] {
  return Object.keys(mode.models).flatMap((written) => {
    const path = ['modes', modeName, 'models', written];
    const model = config.models[modelOf(config, written)];
    if (!model) {
      const near = nearest(written, [VLM_ALIAS, ...Object.keys(config.models)]);
      const remedy = near
        ? `Did you mean ${near}? Otherwise add it to models.`
        : 'Add it to models, or remove it here.';
      return [{ path, about: ['models', written], message: 'is not a model of this configuration.', remedy }];
    }
    return [];
  });
}

/** A mode that can never be reached is a mistake; only a declared total can show it before a start. */
function checkRoom(config: Config, modeName: string, mode: ModeSettings): Contradiction[] {
  const total = config.gpu.total_mb;
  if (total === undefined) return [];
  const wished = new Set(
    Object.entries(mode.models).flatMap(([written, place]) => (place === 'gpu' ? [modelOf(config, written)] : [])),
  );
  const parts = [...wished].map((name) => ({ name, mb: config.models[name]?.vram_mb ?? 0 }));
  if (mode.clip === 'gpu') parts.push({ name: 'clip', mb: config.clip.vram_mb });
  const needed = parts.reduce((sum, part) => sum + part.mb, config.reserve_mb);
  if (parts.length === 0 || needed <= total) return [];
  const list = parts.map((part) => `${part.name} ${part.mb}`).join(' + ');
  const message = `wants ${needed} MB on the GPU (${list} + reserve ${config.reserve_mb}), but gpu.total_mb is ${total}.`;
  return [{ path: ['modes', modeName], message, remedy: 'Take one of them off the GPU in this mode.' }];
}

/** What a mode's `vlm` stands for. */
export const modelOf = (config: Config, written: string): string =>
  written === VLM_ALIAS ? config.vlm_model : written;
