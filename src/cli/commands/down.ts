/** `vramflow down`: ends what `vramflow up` started. Services and models stay as they are (law 6). */
import { Command } from 'commander';

import { foldersOf } from '../../config/folders.js';
import { stopServer } from '../../embedded/server.js';
import { stopSimulator } from '../../embedded/simulator.js';
import { stopSupervisor } from '../../embedded/supervisor.js';
import type { CliContext } from '../context.js';
import { embeddedUserError } from '../embeddedUserError.js';
import { configOf, homeOf, outputOf } from '../globalOptions.js';
import { endLeftEmbedders } from '../leftEmbedders.js';

export function downCommand(context: CliContext): Command {
  return new Command('down')
    .description('end the workers, the embedder and the embedded Temporal server; services and models stay as they are')
    .action((_options, command: Command) => down(command, context).catch(embeddedUserError));
}

async function down(command: Command, context: CliContext): Promise<void> {
  const output = outputOf(command, context);
  const { config } = configOf(command, context);
  const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
  const workers = await stopSupervisor(data);
  const embedders = await endLeftEmbedders(data);
  const temporal = await stopServer({ dataFolder: data });
  const simulator = await stopSimulator(data);
  const ended = {
    supervisor_pid: workers.supervisor,
    left_over_workers: workers.orphans,
    embedder_pids: embedders,
    temporal_pid: temporal?.pid ?? null,
    simulator,
  };
  output.data(ended, () => {
    const parts = [
      ...(workers.supervisor === null ? [] : [`the workers (supervisor ${workers.supervisor})`]),
      ...(workers.orphans === 0 ? [] : [`${workers.orphans} workers that a killed supervisor left`]),
      ...embedders.map((pid) => `the embedder (process ${pid})`),
      ...(temporal === null ? [] : [`Temporal (process ${temporal.pid})`]),
      ...(simulator ? ['the simulated host'] : []),
    ];
    if (parts.length === 0) return 'Nothing of vramflow ran here.';
    return `Ended ${parts.join(', ')}. Services and models stay as they are.`;
  });
}
