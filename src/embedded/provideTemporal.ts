/** The one question that `vramflow up` asks: where is Temporal? A given server, or our own. */
import { serverChain } from './chain.js';
import { EmbeddedServerError } from './errors.js';
import { findServer } from './findServer.js';
import { connectHealthy } from './health.js';
import { ensureSearchAttributes } from './namespace.js';
import { ensureServer } from './server.js';

export interface ProvidedTemporal {
  /** host:port of gRPC. */
  address: string;
  /** Null: a given server, whose UI we do not know. */
  webUi: string | null;
}

export interface ProvideOptions {
  address: string | undefined;
  namespace: string;
  binary: string | undefined;
  port: number;
  uiPort: number;
  dataFolder: string;
  cacheFolder: string;
  env: NodeJS.ProcessEnv;
  progress: (line: string) => void;
  signal: AbortSignal;
}

/** How long a given server may take to answer, ms. */
const GIVEN_MS = 10_000;

/** @throws EmbeddedServerError */
export async function provideTemporal(options: ProvideOptions): Promise<ProvidedTemporal> {
  const { address, namespace } = options;
  if (address !== undefined) {
    await prepareGiven(address, namespace);
    return { address, webUi: null };
  }
  const { port, uiPort, dataFolder, progress, signal } = options;
  const findBinary = async () => {
    const found = await findServer(serverChain(options), signal);
    if (found.kind === 'binary') return found;
    throw new TypeError('No address was given, so the chain ends in a program.');
  };
  return ensureServer({ dataFolder, namespace, port, uiPort, progress, signal, findBinary });
}

async function prepareGiven(address: string, namespace: string): Promise<void> {
  const connection = await connectHealthy(address, namespace, GIVEN_MS);
  if ('reason' in connection) {
    throw new EmbeddedServerError(
      'unreachable',
      `No Temporal server with namespace ${namespace} answers at ${address}: ${connection.reason}.`,
      'Start it or correct the address (VRAMFLOW_TEMPORAL_ADDRESS, `temporal.address`); without one vramflow runs its own.',
    );
  }
  try {
    await ensureSearchAttributes(connection, namespace);
  } finally {
    await connection.close();
  }
}
