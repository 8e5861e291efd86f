import { Client, Connection } from '@temporalio/client';
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
