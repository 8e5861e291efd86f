/** Where a word of the command line belongs that stands in the wrong place: an option, or a value of the configuration. */
import { type Command, CommanderError } from 'commander';

const SETTING = /^[\w."-]+=/;

/** @returns a sentence for the person, or null where nothing is known */
export function wherePlaced(error: unknown, argv: readonly string[], program: Command): string | null {
  if (!(error instanceof CommanderError)) return null;
  const setting = argv.find((word, at) => SETTING.test(word) && argv[at - 1] !== '--set');
  const given = /option '--set <key=value>' argument '([^']*)'/.exec(error.message)?.[1];
  if (given !== undefined && program.commands.some((command) => command.name() === given)) {
    return `--set takes the key=value right after it: vramflow ${given} --set ${setting ?? 'log_level=debug'}`;
  }
  if (error.code === 'commander.excessArguments' && setting !== undefined) {
    return `A value of the configuration stands after --set: --set ${setting}`;
  }
  const option = /unknown option '(--[\w-]+)/.exec(error.message)?.[1];
  const owners = option === undefined ? [] : ownersOf(program, option, []);
  return owners.length === 0 ? null : `${option} belongs to: ${owners.join(', ')}`;
}

function ownersOf(command: Command, option: string, names: string[]): string[] {
  const own = command.options.some(({ long }) => long === option) && names.length > 0 ? [names.join(' ')] : [];
  return [...own, ...command.commands.flatMap((child) => ownersOf(child, option, [...names, child.name()]))];
}
