import { fileURLToPath } from 'node:url';
import { Client, Connection } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { expect, it, vi } from 'vitest';
import { signalHost } from '../../src/activities/control.js';
import { SIGNAL, STATE_MEMO } from '../../src/contracts/messages.js';
import { CONTROL_QUEUE, workflowId } from '../../src/contracts/names.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import type * as otherVersion from '../system/otherVersion.js';
import { startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';

it('begins a new host chain when the history of the old one does not fit this version', async () => {
  const temporal = await startTemporal();
  try {
    const host = `upgraded-${process.pid}`;
    await runOtherVersion(temporal, 'gpuHost', workflowId.gpuHost(host));
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
    await system.json(['clip', 'move', 'cpu']);
    const before = await system.hostState();
    await system.control?.kill();
    const memo = { [STATE_MEMO]: { ...before, agent: null } };
    await runOtherVersion(system.temporal, 'gpuHost', workflowId.gpuHost(system.host), memo);
    system.startControl();
    // The new chain has taken the agent in, and looked at the host.
    await vi.waitFor(async () => expect(await system.hostState()).toMatchObject({ agent: before.agent }), 60_000);
    expect((await system.hostState()).intents).toEqual(before.intents);
    await system.json(['mode', 'recording']);
    expect(await system.status()).toMatchObject({ execution_mode: 'recording', vlm_state: 'loaded' });
    const { agent } = await system.hostState();
    expect(agent?.instance).toBe((await system.status()).agent.instance);
  } finally {
    await system.stop();
  }
}, 120_000);

it('begins an idle timer anew that no worker can go on with', async () => {
  const system = await startSystem({ speed: 10, config: { idle_timeout_seconds: 3 } });
  try {
    await system.control?.kill();
    const id = workflowId.idleUnload(system.host, VLM);
    const wedged = await runOtherVersion(system.temporal, 'idleUnload', id);
    system.startControl();
    await system.json(['model', 'load', VLM]);
    // Each look of the host at a resident model sees to its timer, and signals it: the server counts its tries anew.
    const looks = setInterval(() => void signalHost(system.client, system.host, SIGNAL.agentOnline, []), 2_000);
    await system
      .until('the idle unload', ({ vlm_state }) => vlm_state === 'unloaded', 60_000)
      .finally(() => clearInterval(looks));
    const { status } = await system.client.workflow.getHandle(id, wedged).describe();
    expect(status.name).toBe('TERMINATED');
  } finally {
    await system.stop();
  }
}, 120_000);

/**
 * Lets another version's workflow run until it waits for its timer, then ends its worker.
 * @returns the id of the run
 */
async function runOtherVersion(
  { address, namespace }: TestServer,
  type: keyof typeof otherVersion,
  id: string,
  memo: Record<string, unknown> = {},
): Promise<string> {
  const native = await NativeConnection.connect({ address });
  const connection = await Connection.connect({ address });
  const worker = await Worker.create({
    connection: native,
    namespace,
    taskQueue: CONTROL_QUEUE,
    workflowsPath: fileURLToPath(new URL('../system/otherVersion.ts', import.meta.url)),
  });
  const run = await worker.runUntil(async () => {
    const client = new Client({ connection, namespace });
    const handle = await client.workflow.start(type, {
      workflowId: id,
      taskQueue: CONTROL_QUEUE,
      args: [],
      memo,
      workflowIdConflictPolicy: 'TERMINATE_EXISTING',
    });
    // A query is answered once the first task is done.
    await handle.query('__temporal_workflow_metadata');
    return handle.firstExecutionRunId;
  });
  await connection.close();
  await native.close();
  return run;
}
