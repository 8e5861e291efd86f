/** Where files belong, by the XDG base directory rules: a relative path in an XDG variable is ignored. */
import { isAbsolute, join } from 'node:path';

export interface Folders {
  /** The server's database, the journal, ownership records: what must survive. */
  data: string;
  /** Logs. */
  state: string;
  /** Programs that were fetched or built; shared by all data folders. */
  cache: string;
  /** Sockets and process ids: what a reboot may take away. */
  runtime: string;
}

interface Surroundings {
  env: NodeJS.ProcessEnv;
  homeDir: string;
}

const APP = 'vramflow';

function base({ env, homeDir }: Surroundings, variable: string, ...fallback: string[]): string {
  const set = env[variable];
  return set && isAbsolute(set) ? join(set, APP) : join(homeDir, ...fallback, APP);
}

/** The user's own configuration, under the project's. */
export const userConfigFile = (where: Surroundings): string =>
  join(base(where, 'XDG_CONFIG_HOME', '.config'), 'config.yaml');

/** With a data folder of one's own (`data_dir`), all but the cache lies in it: two of them never meet. */
export function foldersOf(dataDir: string | undefined, where: Surroundings): Folders {
  const cache = base(where, 'XDG_CACHE_HOME', '.cache');
  if (dataDir !== undefined)
    return { data: dataDir, state: join(dataDir, 'state'), cache, runtime: join(dataDir, 'run') };
  const state = base(where, 'XDG_STATE_HOME', '.local', 'state');
  const runtime = where.env['XDG_RUNTIME_DIR'];
  return {
    data: base(where, 'XDG_DATA_HOME', '.local', 'share'),
    state,
    cache,
    runtime: runtime && isAbsolute(runtime) ? join(runtime, APP) : join(state, 'run'),
  };
}

/** Where the agent of a host keeps its files. */
export const agentFolder = (folders: Folders, host: string): string => join(folders.data, 'agents', host);
/** Where it says at which address it answers. */
export const endpointFile = (folders: Folders, host: string): string =>
  join(agentFolder(folders, host), 'endpoint.json');
