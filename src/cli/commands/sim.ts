import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { foldersOf } from '../../config/folders.js';
import { runSimulatorCommand } from '../../simulator/cli.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { EXIT, type ExitCode } from '../exitCodes.js';
import { configOf, homeOf } from '../globalOptions.js';
import { UserError } from '../userError.js';

/** `vramflow sim …`: looks at the simulated host, and disturbs it. */
export function simCommand(context: CliContext): Command {
  return new Command('sim')
    .description('look at the simulated host, or disturb it: state, record, faults, foreign processes')
    .argument('[words...]', 'state, record, fault set|clear|list, foreign add|end, …; without words: state')
    .allowUnknownOption()
    .action(async (words: string[], _options, command: Command) => {
      const { config } = configOf(command, context);
      const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
      const code = await runSimulatorCommand(
        [adminUrl(join(data, 'simulator.json')), ...(words.length > 0 ? words : ['state'])],
        {
          stdout: (text) => void context.stdout.write(text),
          stderr: (text) => void context.stderr.write(text),
        },
      );
      exitWith(EXIT_OF[code] ?? EXIT.unexpected);
    });
}

/** What the simulator's own program answers: done, refused, wrong words, no simulator. */
const EXIT_OF: ExitCode[] = [EXIT.ok, EXIT.usage, EXIT.usage, EXIT.unavailable];

function adminUrl(record: string): string {
  try {
    return (JSON.parse(readFileSync(record, 'utf8')) as { endpoints: { admin: string } }).endpoints.admin;
  } catch (error) {
    throw new UserError('No simulated host runs from this data folder.', {
      exitCode: EXIT.unavailable,
      remedy: 'Start one with `vramflow up --simulate`.',
      cause: error,
    });
  }
}
