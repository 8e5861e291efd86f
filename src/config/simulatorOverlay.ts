/** A simulated host: its endpoints and programs lie on top of every other source, so that nothing real is touched. */
import { z } from 'zod';
import type { KeyPath } from './keyPath.js';
import type { Tree } from './layer.js';
import { type Loaded, withOverlay } from './load.js';
import type { ServiceSettings } from './schema.js';
import { type Health, pageOf, playedCheck } from './simulatedServices.js';

/** Set by `vramflow up --simulate` for its children: the line that the simulator printed. */
export const SIMULATOR_VARIABLE = 'VRAMFLOW_SIMULATOR';

const endpoints = z.object({
  ollama: z.string(),
  /** The socket of the simulated Docker daemon. */
  docker: z.string(),
  nvidiaSmi: z.array(z.string()).min(1),
  embedder: z.array(z.string()).min(1),
  /** The program that stands for any native service, when it is told which. */
  service: z.array(z.string()).min(1),
});

export function withSimulator(loaded: Loaded, env: NodeJS.ProcessEnv): Loaded {
  const text = env[SIMULATOR_VARIABLE];
  if (text === undefined) return loaded;
  const { ollama, docker, nvidiaSmi, embedder, service } = endpoints.parse(JSON.parse(text));
  const services = Object.entries(loaded.config.services).map(([name, settings]) => [
    name,
    playedService(settings, [...service, '--name', name]),
  ]);
  const values = {
    ollama_endpoint: ollama,
    gpu: { reader: 'nvidia-smi', nvidia_smi: nvidiaSmi },
    clip: { command: embedder },
    docker: { socket: docker },
    services: Object.fromEntries(services),
  };
  return withOverlay(loaded, values, 'simulate', isPlayed);
}

/** What is said anew of a service. @param program that plays it, if it is a native one */
function playedService({ run, health, ports }: ServiceSettings, program: string[]): Tree {
  const check = health === undefined ? {} : { health: playedCheck(health) };
  if (run === undefined) return check;
  const page = health && pageOf(health);
  // A port of its page that is not free stops a start: otherwise the page of a real program there would be asked.
  const isMissing = page && !ports.includes(page.port);
  return { run: program, ...check, ...(isMissing ? { ports: [...ports, page.port] } : {}) };
}

/** What a simulated service takes over from the user's. All else would run, adopt, call or need something real. */
const PLAYED: readonly (keyof ServiceSettings)[] = [
  'container',
  'image',
  'gpu_access',
  'ports',
  'vram_mb',
  'serves',
  'priority',
  'pinned',
  'health',
  'start_timeout_seconds',
  'stop_timeout_seconds',
];
const PLAYED_OF_HEALTH: readonly (keyof Health)[] = ['interval_seconds', 'timeout_seconds', 'failures'];

function isPlayed([section, , key, inner]: KeyPath): boolean {
  if (section !== 'services' || key === undefined) return true;
  const isOneOf = (names: readonly string[], name: string) => names.includes(name);
  return isOneOf(PLAYED, key) && (inner === undefined || key !== 'health' || isOneOf(PLAYED_OF_HEALTH, inner));
}
