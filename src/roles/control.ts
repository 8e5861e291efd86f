import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from '@temporalio/worker';
import type { Logger } from 'pino';
import { createControlActivities } from '../activities/control.js';
import type { Config } from '../config/schema.js';
import { CONTROL_QUEUE } from '../contracts/names.js';
import { ensureSearchAttributes } from '../embedded/namespace.js';
import { connect } from './connection.js';
import { WORKER_TUNING } from './tuning.js';

/** Runs the workflows and the activities that need no hardware, until the signal. */
export async function runControl(config: Config, log: Logger, signal: AbortSignal): Promise<void> {
  const { native, connection, client } = await connect(config, log, signal);
  await ensureSearchAttributes(connection, config.temporal.namespace);
  const worker = await Worker.create({
    ...WORKER_TUNING,
    ...workflowSource(),
    connection: native,
    namespace: config.temporal.namespace,
    taskQueue: CONTROL_QUEUE,
    activities: createControlActivities(client),
    identity: `vramflow-control@${process.pid}`,
  });
  log.info({ queue: CONTROL_QUEUE }, 'the control worker runs');
  signal.addEventListener('abort', () => worker.shutdown(), { once: true });
  await worker.run();
  await connection.close();
  await native.close();
}

/** The bundle of the build, if there is one: it saves seconds at each start. */
function workflowSource() {
  const bundle = fileURLToPath(new URL('../workflows.bundle.js', import.meta.url));
  return existsSync(bundle)
    ? { workflowBundle: { codePath: bundle } }
    : { workflowsPath: fileURLToPath(new URL('../workflows/index.js', import.meta.url)) };
}
