import { setTimeout as pause } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import type { Logger } from 'pino';
import type { Config } from '../config/schema.js';

const RETRY_MS = 1_000;

export const temporalAddress = (config: Config): string =>
  config.temporal.address ?? `127.0.0.1:${config.temporal.port}`;

/** Waits for the Temporal server; says so every few seconds. */
export async function connect(
  config: Config,
  log: Logger,
  signal: AbortSignal,
): Promise<{ native: NativeConnection; connection: Connection; client: Client }> {
  const address = temporalAddress(config);
  for (let tried = 0; ; tried += 1) {
    signal.throwIfAborted();
    try {
      const native = await NativeConnection.connect({ address });
      const connection = await Connection.connect({ address });
      return { native, connection, client: new Client({ connection, namespace: config.temporal.namespace }) };
    } catch (error) {
      if (tried % 10 === 0) log.warn({ address, error: String(error) }, 'Temporal does not answer yet; trying on');
      await pause(RETRY_MS, undefined, { signal });
    }
  }
}
