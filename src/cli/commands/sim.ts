import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { foldersOf } from '../../config/folders.js';
import { COMMAND_USAGE, runSimulatorCommand } from '../../simulator/cli.js';
import type { CliContext } from '../context.js';
import { EXIT } from '../exitCodes.js';
import { configOf, homeOf, outputOf } from '../globalOptions.js';
import { renderSimAnswer } from '../simAnswer.js';
import { UserError } from '../userError.js';

/** `vramflow sim …`: looks at the simulated host, and disturbs it. */
export function simCommand(context: CliContext): Command {
  return new Command('sim')
    .description('look at the simulated host, or disturb it')
    .argument('[words...]', 'one of the commands below (default: state)')
    .addHelpText('after', `\nCommands of the simulated host:\n${COMMAND_USAGE}`)
    .allowUnknownOption()
    .action(async (given: string[], _options, command: Command) => {
      const { config } = configOf(command, context);
      const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
      const words = given.length > 0 ? given : ['state'];
      const said = { stdout: '', stderr: '' };
      const code = await runSimulatorCommand([adminUrl(join(data, 'simulator.json')), ...words], {
        stdout: (text) => void (said.stdout += text),
        stderr: (text) => void (said.stderr += text),
      });
      if (code !== 0) throw refusal(code, words, said.stderr.trim());
      outputOf(command, context).data(JSON.parse(said.stdout) as Record<string, unknown>, (answer, style) =>
        renderSimAnswer(words, answer, style),
      );
    });
}

/** What the simulator's own program ends with: 1 refused, 2 wrong words, 3 no simulator. */
function refusal(code: number, words: string[], message: string): UserError {
  if (code === 1) {
    const [what = '', ...remedy] = message.split('\n');
    return new UserError(what, { remedy: remedy.join(' ') || '`vramflow sim --help` shows what it takes.' });
  }
  if (code === 2) {
    return new UserError(`the simulated host does not understand "${words.join(' ')}".`, {
      remedy: '`vramflow sim --help` shows its commands.',
    });
  }
  return new UserError(message, {
    exitCode: EXIT.unavailable,
    remedy: 'Start it with `vramflow up --simulate`.',
  });
}

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
