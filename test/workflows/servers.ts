/** The two servers that scripted agents live on: one whose time is real, and one whose time can be skipped. */
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { startTemporal, startTimeSkipping } from '../parts/temporal.js';

export interface Server {
  client: Client;
  native: NativeConnection;
  /** Workflow time, ms. */
  now(): Promise<number>;
  /** Lets time pass; null where it passes by itself only. */
  skip: ((ms: number) => Promise<void>) | null;
  stop(): Promise<void>;
}

// Deaths are what these tests are about: the SDK's warnings of them are no news.
Runtime.install({
  logger: new DefaultLogger('ERROR'),
  telemetryOptions: { logging: { forward: {}, filter: 'ERROR' } },
});

/** Robust against many hosts at once; a death takes the three seconds of its heartbeat. */
export async function realServer(): Promise<Server> {
  const temporal = await startTemporal();
  const connection = await Connection.connect({ address: temporal.address });
  const native = await NativeConnection.connect({ address: temporal.address });
  return {
    client: new Client({ connection, namespace: temporal.namespace }),
    native,
    now: () => Promise.resolve(Date.now()),
    skip: null,
    async stop() {
      await connection.close();
      await native.close();
      await temporal.stop();
    },
  };
}

/** For what takes minutes and hours, one host at a time. While an activity runs, or hangs, its time is real, too. */
export async function skippingServer(): Promise<Server | { missing: string }> {
  const env = await startTimeSkipping();
  if ('skip' in env) return { missing: env.skip };
  return {
    client: new Client({ connection: env.connection }),
    native: env.nativeConnection,
    now: () => env.currentTimeMs(),
    skip: (ms) => env.sleep(ms),
    stop: () => env.teardown(),
  };
}
