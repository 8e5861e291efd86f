/** A simulated host: its endpoints lie on top of every other source, so that nothing real is touched by mistake. */
import { z } from 'zod';
import { type Loaded, withOverlay } from './load.js';

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
  const values = {
    ollama_endpoint: ollama,
    gpu: { reader: 'nvidia-smi', nvidia_smi: nvidiaSmi },
    clip: { command: embedder },
    docker: { socket: docker },
    services: Object.fromEntries(
      Object.entries(loaded.config.services)
        .filter(([, { run }]) => run !== undefined)
        .map(([name]) => [name, { run: [...service, '--name', name] }]),
    ),
  };
  return withOverlay(loaded, values, 'simulate');
}
