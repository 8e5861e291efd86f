import { Command } from 'commander';
import type { Status } from '../../contracts/status.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { table } from '../output.js';

/** `vramflow gpu ps`: each GPU process, and whose it is (P1). */
export function gpuCommand(context: CliContext): Command {
  const gpu = new Command('gpu').description('look at the GPUs');
  gpu
    .command('ps')
    .description('each process on the GPUs: which tenant it belongs to, or foreign')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const { processes, simulated } = await agentClient(config, context).get<Status>('/v1/status');
      outputOf(command, context).data({ simulated, processes }, (_value, style) => {
        if (processes === null) return 'the list of GPU processes cannot be had; `vramflow doctor` says why';
        if (processes.length === 0) return 'no process is on a GPU; what vramflow loads shows here';
        return table(
          [
            { title: 'GPU' },
            { title: 'pid', align: 'right' },
            { title: 'MB', align: 'right' },
            { title: 'owner' },
            { title: 'process' },
          ],
          processes.map((one) => [
            one.gpu.slice(0, 12),
            String(one.pid),
            one.used_mb === null ? 'unknown' : String(one.used_mb),
            one.owner,
            one.name,
          ]),
          style,
        );
      });
    });
  return gpu;
}
