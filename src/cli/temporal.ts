import {
  Client,
  Connection,
  type ConnectionOptions,
  makeGrpcRetryInterceptor,
  NamespaceNotFoundError,
  ServiceError,
} from '@temporalio/client';
import type { Config } from '../config/schema.js';
import { askWhetherSimulated } from './agentClient.js';
import type { CliContext } from './context.js';
import { describeDuration } from './duration.js';
import { EXIT } from './exitCodes.js';
import { isAway, PATIENCE_MS, patience } from './patience.js';
import { UserError } from './userError.js';

const CONNECT_TIMEOUT_MS = 5_000;

export const temporalAddress = (config: Config): string =>
  config.temporal.address ?? `127.0.0.1:${config.temporal.port}`;

/** @throws UserError when the server does not answer */
export async function temporalClient(config: Config, options: ConnectionOptions = {}): Promise<Client> {
  const address = temporalAddress(config);
  try {
    const connection = await Connection.connect({ address, connectTimeout: CONNECT_TIMEOUT_MS, ...options });
    return new Client({ connection, namespace: config.temporal.namespace });
  } catch (error) {
    throw new UserError(`Temporal does not answer at ${address}.`, {
      exitCode: EXIT.unavailable,
      remedy: startIt(config),
      cause: error,
    });
  }
}

/**
 * Works with a server that may go away meanwhile: that is said at once, and waited for.
 * @throws UserError when the server does not answer, or refuses
 */
export async function withTemporal<T>(
  config: Config,
  context: CliContext,
  work: (client: Client) => Promise<T>,
  patienceMs = PATIENCE_MS,
): Promise<T> {
  const say = (line: string) => void context.stderr.write(`${line}\n`);
  const retries = patience({ address: temporalAddress(config), say, patienceMs });
  const client = await temporalClient(config, { interceptors: [makeGrpcRetryInterceptor(retries)] });
  try {
    await askWhetherSimulated(config, context);
    return await work(client);
  } catch (error) {
    throw explainTemporal(error, config, patienceMs);
  } finally {
    await client.connection.close();
  }
}

const startIt = (config: Config): string =>
  config.temporal.address
    ? 'See that the server runs there, or correct temporal.address.'
    : 'Start it with `vramflow up`.';

/** What the server refused, or that it went away, as a user error; every other error as it is. */
function explainTemporal(error: unknown, config: Config, waitedMs: number): unknown {
  const options = { exitCode: EXIT.unavailable, cause: error };
  const address = temporalAddress(config);
  if (error instanceof NamespaceNotFoundError) {
    return new UserError(`Temporal at ${address} has no namespace "${error.namespace}".`, {
      ...options,
      remedy: 'Create it there, or correct temporal.namespace.',
    });
  }
  if (!(error instanceof ServiceError)) return error;
  if (isAway(error.cause)) {
    return new UserError(`Temporal has not answered at ${address} for ${describeDuration(waitedMs)}.`, {
      ...options,
      remedy: `${startIt(config)} An operation that has begun goes on then; \`vramflow history\` tells how it ended.`,
    });
  }
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return new UserError(`Temporal at ${address}: ${error.message}${cause}`, {
    ...options,
    remedy: '`vramflow doctor` shows whether it answers. An operation that has begun goes on once it does.',
  });
}
