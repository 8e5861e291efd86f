/** Whether a worker that is new could take on every workflow of a host: nothing else tells until one has to. */
import { fileURLToPath } from 'node:url';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { System } from '../system/system.js';

const BUNDLE = fileURLToPath(new URL('../../dist/workflows.bundle.js', import.meta.url));

/** @returns a line for each history that does not fit the code which made it */
export async function unreplayable({ client }: System): Promise<string[]> {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const complaints: string[] = [];
  const histories = client.workflow.list().intoHistories();
  const replays = Worker.runReplayHistories({ workflowBundle: { codePath: BUNDLE } }, histories);
  for await (const { workflowId, error } of replays) {
    if (error) complaints.push(`${workflowId}: ${error.message}`);
  }
  return complaints;
}
