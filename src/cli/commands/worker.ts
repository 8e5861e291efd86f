import { Command, Option } from 'commander';
import type { Role } from '../../worker.js';
import type { CliContext } from '../context.js';
import type { GlobalOptions } from '../globalOptions.js';

/** `vramflow worker --role control|agent|all`: the workers in the foreground, for a fleet or a service manager. */
export function workerCommand(context: CliContext): Command {
  return new Command('worker')
    .description('run workers in the foreground; `vramflow up` does this for you on one machine')
    .addOption(
      new Option('--role <role>', 'what this process does').choices(['control', 'agent', 'all']).default('all'),
    )
    .action(async (options: { role: Role }, command: Command) => {
      const { config, set, output } = command.optsWithGlobals<GlobalOptions>();
      const { env, cwd } = context;
      // All that a worker needs takes longer to load than another command to run.
      const { runWorker } = await import('../../worker.js');
      await runWorker({ role: options.role, config, set, json: output === 'json', env, cwd });
    });
}
