import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { expect, it } from 'vitest';
import { CONTROL_QUEUE, workflowId } from '../../src/contracts/names.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { startSystem } from '../system/system.js';

it('begins a new host chain when the history of the old one does not fit this version', async () => {
  const temporal = await startTemporal();
  try {
    const host = `upgraded-${process.pid}`;
    await runOtherVersion(temporal, host);
    const system = await startSystem({ temporal, host, speed: 10 });
    try {
      await system.json(['mode', 'recording']);
      expect(await system.status()).toMatchObject({ execution_mode: 'recording', vlm_state: 'loaded' });
    } finally {
      await system.stop();
    }
  } finally {
    await temporal.stop();
  }
}, 120_000);

it('begins a new host chain under an agent that runs, when no worker can go on with the old one', async () => {
  const system = await startSystem({ speed: 10 });
  try {
    await system.json(['mode', 'autopilot']);
    await system.control?.kill();
    await system.client.workflow.getHandle(workflowId.gpuHost(system.host)).terminate('by a test');
    await runOtherVersion(system.temporal, system.host);
    system.startControl();
    await system.json(['mode', 'recording']);
    expect(await system.status()).toMatchObject({ execution_mode: 'recording', vlm_state: 'loaded' });
    const { agent } = await system.hostState();
    expect(agent?.instance).toBe((await system.status()).agent.instance);
  } finally {
    await system.stop();
  }
}, 120_000);

/** Lets another version's host run until it waits for its timer, then ends its worker. */
async function runOtherVersion({ address, namespace }: TestServer, host: string): Promise<void> {
  const native = await NativeConnection.connect({ address });
  const connection = await Connection.connect({ address });
  const worker = await Worker.create({
    connection: native,
    namespace,
    taskQueue: CONTROL_QUEUE,
    workflowsPath: fileURLToPath(new URL('../system/otherVersion.ts', import.meta.url)),
  });
  await worker.runUntil(async () => {
    const client = new Client({ connection, namespace });
    const handle = await client.workflow.start('gpuHost', {
      workflowId: workflowId.gpuHost(host),
      taskQueue: CONTROL_QUEUE,
      args: [],
    });
    // A query is answered once the first task is done.
    await handle.query('__temporal_workflow_metadata');
  });
  await connection.close();
  await native.close();
}
