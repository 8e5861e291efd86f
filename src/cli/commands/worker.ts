import { Command, Option } from 'commander';
import { type Role, runWorker } from '../../worker.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import type { ExitCode } from '../exitCodes.js';

/** `vramflow worker --role control|agent|all`: the workers in the foreground, for a fleet or a service manager. */
export function workerCommand(context: CliContext): Command {
  return new Command('worker')
    .description('run workers in the foreground; `vramflow up` does this for you on one machine')
    .addOption(
      new Option('--role <role>', 'what this process does').choices(['control', 'agent', 'all']).default('all'),
    )
    .action(async (options: { role: Role }, command: Command) => {
      const { config } = command.optsWithGlobals<{ config?: string }>();
      const code = await runWorker({
        role: options.role,
        env: context.env,
        cwd: context.cwd,
        ...(config ? { config } : {}),
      });
      exitWith(code as ExitCode);
    });
}
