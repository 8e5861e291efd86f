import { Client, Connection, NamespaceNotFoundError, ServiceError } from '@temporalio/client';
import type { Config } from '../config/schema.js';
import { EXIT } from './exitCodes.js';
import { UserError } from './userError.js';

const CONNECT_TIMEOUT_MS = 5_000;

export const temporalAddress = (config: Config): string =>
  config.temporal.address ?? `127.0.0.1:${config.temporal.port}`;

/** @throws UserError when the server does not answer */
export async function temporalClient(config: Config): Promise<Client> {
  const address = temporalAddress(config);
  try {
    const connection = await Connection.connect({ address, connectTimeout: CONNECT_TIMEOUT_MS });
    return new Client({ connection, namespace: config.temporal.namespace });
  } catch (error) {
    throw new UserError(`Temporal does not answer at ${address}.`, {
      exitCode: EXIT.unavailable,
      remedy: config.temporal.address
        ? 'See that the server runs there, or correct temporal.address.'
        : 'Start it with `vramflow up`.',
      cause: error,
    });
  }
}

/** What the server refused, or that it went away, as a user error; every other error as it is. */
export function explainTemporal(error: unknown, config: Config): unknown {
  const options = { exitCode: EXIT.unavailable, cause: error };
  if (error instanceof NamespaceNotFoundError) {
    return new UserError(`Temporal at ${temporalAddress(config)} has no namespace "${error.namespace}".`, {
      ...options,
      remedy: 'Create it there, or correct temporal.namespace.',
    });
  }
  if (!(error instanceof ServiceError)) return error;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return new UserError(`Temporal at ${temporalAddress(config)}: ${error.message}${cause}`, {
    ...options,
    remedy: '`vramflow doctor` shows whether it answers. An operation that has begun goes on once it does.',
  });
}
