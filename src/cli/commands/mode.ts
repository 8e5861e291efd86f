import { Command } from 'commander';
import { ConfigError } from '../../config/problem.js';
import { workflowId } from '../../contracts/names.js';
import type { Status } from '../../contracts/status.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { configOf, outputOf } from '../globalOptions.js';
import { suggest } from '../nearest.js';
import { operate } from '../operate.js';
import { UserError } from '../userError.js';

/** `vramflow mode`: shows the mode; `vramflow mode [set] <mode>`: moves the host to it. */
export function modeCommand(context: CliContext): Command {
  return new Command('mode')
    .description('show the mode, or switch to one: vramflow mode [set] <mode>')
    .argument('[words...]', 'a mode, or: set <mode>')
    .option('--no-wait', 'start the switch and return; print its workflow id')
    .addHelpText('after', ({ command }) => `\n${modesHelp(command, context)}`)
    .action(async (words: string[], options: { wait: boolean }, command: Command) => {
      const { config } = configOf(command, context);
      const output = outputOf(command, context);
      const [mode, more] = words[0] === 'set' ? words.slice(1) : words;
      if (more !== undefined) throw new UserError(`"${more}" is too much: one mode at a time.`);
      if (mode === undefined) {
        const { execution_mode: current } = await agentClient(config, context).get<Status>('/v1/status');
        output.data({ mode: current, modes: Object.keys(config.modes) }, () => current);
        return;
      }
      if (!Object.hasOwn(config.modes, mode)) {
        throw new UserError(`There is no mode "${mode}".`, { remedy: suggest(mode, Object.keys(config.modes)) });
      }
      const code = await operate(config, context, output, {
        workflow: 'modeTransition',
        workflowId: (request) => workflowId.modeTransition(config.host, request),
        input: { host: config.host, goal: { kind: 'mode', mode }, requestedBy: 'the command line', priority: 50 },
        summary: `mode ${mode}, asked for on the command line`,
        wait: options.wait,
      });
      exitWith(code);
    });
}

/** Help is there also where the configuration cannot be used: then it says that, and what would be listed. */
function modesHelp(command: Command, context: CliContext): string {
  const origin = 'They come from `modes` in the configuration; without it there are built-in ones.';
  try {
    return `Modes: ${Object.keys(configOf(command, context).config.modes).join(', ')}. ${origin}`;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return `The configuration cannot be used, so its modes are not listed: see \`vramflow config validate\`. ${origin}`;
  }
}
