/** The server that scripted agents live on. */
import { Client, Connection } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime } from '@temporalio/worker';
import { startTemporal } from '../parts/temporal.js';

export interface Server {
  client: Client;
  native: NativeConnection;
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
    async stop() {
      await connection.close();
      await native.close();
      await temporal.stop();
    },
  };
}
