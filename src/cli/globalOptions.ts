/** The options that every command has, and what follows from them: the output and the configuration. */
import { homedir } from 'node:os';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Loaded, type LoadInput, loadConfig } from '../config/load.js';
import { describeProblem } from '../config/problem.js';
import type { CliContext } from './context.js';
import { createOutput, type Format, type Output } from './output.js';

export interface GlobalOptions {
  output?: Format;
  config?: string;
  set?: Record<string, string>;
}

/** To be called on the program, not on its commands. */
export function addGlobalOptions(program: Command): Command {
  return program
    .addOption(new Option('-o, --output <format>', 'how data is printed').choices(['text', 'json']).default('text'))
    .option('--config <file>', 'the configuration file (default: vramflow.yaml in this folder)')
    .option('--set <key=value>', 'a configuration value for this call, for example gpu.reader=none', collect);
}

/** The format that a command line asks for, also one that cannot be parsed: its error is to have that format, too. */
export function formatAsked(argv: readonly string[]): Format {
  // What follows a -- is another program's.
  const own = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  const asked = own.some(
    (word, at) =>
      ['-ojson', '--output=json'].includes(word) || (['-o', '--output'].includes(word) && own[at + 1] === 'json'),
  );
  return asked ? 'json' : 'text';
}

function collect(written: string, before: Record<string, string> = {}): Record<string, string> {
  const equals = written.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('Write it as key=value, for example log_level=debug.');
  return { ...before, [written.slice(0, equals)]: written.slice(equals + 1) };
}

export const outputOf = (command: Command, context: CliContext): Output =>
  createOutput(context, command.optsWithGlobals<GlobalOptions>().output ?? 'text');

export function loadInputOf(command: Command, context: CliContext): LoadInput {
  const { config, set } = command.optsWithGlobals<GlobalOptions>();
  return { argv: { config, overrides: set ?? {} }, env: context.env, cwd: context.cwd, homeDir: homeOf(context) };
}

/** @throws ConfigError */
export function configOf(command: Command, context: CliContext): Loaded {
  const loaded = loadConfig(loadInputOf(command, context));
  // For a program, stderr has errors only; `config validate` has these too.
  if (command.optsWithGlobals<GlobalOptions>().output !== 'json') {
    for (const warning of loaded.warnings) {
      context.stderr.write(`warning: ${describeProblem(warning)} ${warning.remedy}\n`);
    }
  }
  return loaded;
}

export const homeOf = (context: CliContext): string => context.env['HOME'] || homedir();
