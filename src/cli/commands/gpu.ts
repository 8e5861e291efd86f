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
    .description('each compute process on the GPUs: which tenant it belongs to, or foreign; and the rest of each GPU')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      const { processes, simulated } = status;
      const unlisted = unlistedOn(status);
      outputOf(command, context).data({ simulated, processes, unlisted }, (_value, style) => {
        if (processes === null) return 'the list of GPU processes cannot be had; `vramflow doctor` says why';
        const rows = [
          ...processes.map((one) => [
            one.gpu.slice(0, 12),
            String(one.pid),
            one.used_mb === null ? 'unknown' : String(one.used_mb),
            one.owner,
            one.name,
          ]),
          ...unlisted
            .filter(({ mb }) => mb !== 0)
            .map(({ gpu, mb }) => [gpu.slice(0, 12), '-', mb === null ? 'unknown' : String(mb), 'foreign', UNLISTED]),
        ];
        if (rows.length === 0) return 'no process is on a GPU; what vramflow loads shows here';
        return table(
          [
            { title: 'GPU' },
            { title: 'pid', align: 'right' },
            { title: 'MB', align: 'right' },
            { title: 'owner' },
            { title: 'process' },
          ],
          rows,
          style,
        );
      });
    });
  return gpu;
}

/** The driver lists compute processes only. */
const UNLISTED = 'the desktop, the driver itself, and processes that it does not list';

/** Of what is foreign on each GPU, the part that no listed process accounts for, MB; null where it is not known. */
export function unlistedOn({ gpus, processes, tenants }: Pick<Status, 'gpus' | 'processes' | 'tenants'>) {
  const ours = new Set(tenants.map(({ id }) => id));
  return gpus.map(({ id, foreignMb }) => {
    const listed = (processes ?? []).filter(({ gpu, owner }) => gpu === id && !ours.has(owner));
    const listedMb = listed.reduce((sum, one) => sum + (one.used_mb ?? 0), 0);
    return { gpu: id, mb: foreignMb === null || processes === null ? null : Math.max(0, foreignMb - listedMb) };
  });
}
