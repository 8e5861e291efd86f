/** What the supervisor of `vramflow up` runs: the hardware (or its simulation), Temporal, the agent, the control worker. */
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { listGpus } from '../adapters/gpu/chooseReader.js';
import { ENVIRONMENT } from '../config/environment.js';
import { endpointFile, type Folders } from '../config/folders.js';
import type { Loaded } from '../config/load.js';
import { simulatedServices } from '../config/simulatedServices.js';
import { SIMULATOR_VARIABLE } from '../config/simulatorOverlay.js';
import { keepServer } from '../embedded/keepServer.js';
import { type ProvideOptions, provideTemporal } from '../embedded/provideTemporal.js';
import { waitWorking } from '../embedded/readiness.js';
import { ensureSimulator, stopSimulator } from '../embedded/simulator.js';
import type { Undertaking } from '../embedded/supervisor.js';
import type { CliContext } from './context.js';
import { UserError } from './userError.js';

export const DEFAULT_PRESET = 'rtx4090';

/** Where the compiled mains lie. */
export const DIST = fileURLToPath(new URL('../', import.meta.url));

/** How long the workers may take once Temporal answers. */
const WORKERS_MS = 60_000;

export interface BringUpOptions {
  loaded: Loaded;
  where: Folders;
  context: CliContext;
  options: { simulate?: string | true; config?: string; set?: Record<string, string> };
  say: (line: string) => void;
  signal: AbortSignal;
}

/** @throws EmbeddedServerError, UserError */
export async function bringUp({ loaded, where, context, options, say, signal }: BringUpOptions): Promise<Undertaking> {
  const since = new Date();
  const { config } = loaded;
  const { host, temporal } = config;
  const overrides = overridesAsEnvironment(options.set ?? {});
  const preset = await simulatedPreset(loaded, options.simulate, say);
  const simulator =
    preset === null
      ? {}
      : {
          [SIMULATOR_VARIABLE]: JSON.stringify(
            await ensureSimulator({
              dataFolder: where.data,
              preset,
              services: simulatedServices(config),
              command: [process.execPath, join(DIST, 'simulator', 'main.js')],
              say,
              signal,
            }),
          ),
        };
  const server: Omit<ProvideOptions, 'signal'> = {
    address: temporal.address,
    namespace: temporal.namespace,
    binary: temporal.binary,
    port: temporal.port,
    uiPort: temporal.ui_port,
    dataFolder: where.data,
    cacheFolder: where.cache,
    env: context.env,
    progress: say,
  };
  const provided = await temporalOrNothing({ ...server, signal });
  const env = { ...context.env, ...overrides, ...whereTemporalIs(provided), ...simulator };
  const file = options.config === undefined ? [] : ['--config', resolve(context.cwd, options.config)];
  const worker = (role: 'agent' | 'control') => ({
    name: role,
    command: process.execPath,
    args: [join(DIST, 'worker.js'), '--role', role, ...file],
    env,
  });
  const agentUrl = () => publishedUrl(where, host);
  return {
    children: [worker('agent'), worker('control')],
    async keep(until) {
      // A given server is its operator's.
      if (temporal.address !== undefined) return;
      const start = (bound: AbortSignal) => provideTemporal({ ...server, signal: bound });
      await keepServer({ dataFolder: where.data, start, say, signal: until });
    },
    async waitReady(until) {
      const { address, webUi } = provided;
      const { namespace } = temporal;
      await waitWorking({ address, namespace, host, agentUrl, since, timeoutMs: WORKERS_MS, say, signal: until });
      return { host, temporal: address, webUi, agent: (await agentUrl()) ?? '', simulated: preset };
    },
  };
}

/** To the workers the server is a given one: they must be told where its pages are. */
export function whereTemporalIs({ address, webUi }: { address: string; webUi: string | null }): NodeJS.ProcessEnv {
  return { VRAMFLOW_TEMPORAL_ADDRESS: address, ...(webUi === null ? {} : { VRAMFLOW_TEMPORAL_UI_URL: webUi }) };
}

/** A start that fails leaves no simulated host behind. */
async function temporalOrNothing(...[options]: Parameters<typeof provideTemporal>) {
  try {
    return await provideTemporal(options);
  } catch (error) {
    await stopSimulator(options.dataFolder);
    throw error;
  }
}

/** Asked for, or chosen because there is neither a configuration nor a GPU; null: real hardware. */
export async function simulatedPreset(
  { config, files }: Loaded,
  simulate: string | true | undefined,
  say: (line: string) => void,
): Promise<string | null> {
  if (simulate !== undefined) return simulate === true ? DEFAULT_PRESET : simulate;
  if (files.length > 0 || config.gpu.reader === 'none') return null;
  const { use, warning } = await listGpus({ command: config.gpu.nvidia_smi });
  if (use === 'none') {
    say(`There is no configuration and no GPU here, so the hardware is simulated. ${warning ?? ''}`.trimEnd());
    return DEFAULT_PRESET;
  }
  // A driver that does not work is no missing GPU: its owner wants to know, not to play.
  if (warning !== null) say(`There should be a GPU here, so nothing is simulated (--simulate does that). ${warning}`);
  return null;
}

/** Workers take a file and variables; `--set` is for one call of the command line. */
function overridesAsEnvironment(set: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(set).map(([key, value]) => {
      const variable = Object.keys(ENVIRONMENT).find((name) => ENVIRONMENT[name] === key);
      if (variable !== undefined) return [variable, value];
      throw new UserError(`--set ${key} cannot be handed on to the workers.`, {
        remedy: 'Write it into the configuration file.',
      });
    }),
  );
}

/** Where the agent says that it answers; null while it does not. */
async function publishedUrl(where: Folders, host: string): Promise<string | null> {
  try {
    const { url } = JSON.parse(await readFile(endpointFile(where, host), 'utf8')) as { url: string };
    return url;
  } catch {
    // Not written yet, or being replaced.
    return null;
  }
}
