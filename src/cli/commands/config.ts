/** `vramflow config`: what the configuration is, where each value comes from, and what is wrong with it. */
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { Command } from 'commander';
import { stringify } from 'yaml';
import { jsonSchemaText } from '../../config/jsonSchema.js';
import { formatPath } from '../../config/keyPath.js';
import { checkFile, configFiles, type Loaded, loadConfig, valuePaths } from '../../config/load.js';
import { ConfigError, describeOrigin, describeProblem, type Origin, type Problem } from '../../config/problem.js';
import type { CliContext } from '../context.js';
import { Exit } from '../exit.js';
import { EXIT } from '../exitCodes.js';
import { configOf, homeOf, loadInputOf, outputOf } from '../globalOptions.js';
import { type Style, table } from '../output.js';
import { UserError } from '../userError.js';

export function configCommand(context: CliContext): Command {
  const config = new Command('config').description('check and show the configuration');

  config
    .command('validate')
    .argument('[file]', 'one file for itself; without it, all that a start would read')
    .description('name every problem with file, line, column, key and remedy')
    .action((file: string | undefined, _options, command: Command) => validate(command, context, file));

  config
    .command('show')
    .option('--origin', 'say where each value comes from')
    .description('print the configuration in effect')
    .action((options: { origin?: boolean }, command: Command) => show(command, context, options.origin === true));

  config
    .command('schema')
    .description('print the JSON Schema of the file, for editors')
    .action(() => void context.stdout.write(jsonSchemaText()));

  config
    .command('path')
    .description('print the files that are looked at, the strongest first')
    .action((_options, command: Command) => showPaths(command, context));

  return config;
}

function validate(command: Command, context: CliContext, file: string | undefined): void {
  const output = outputOf(command, context);
  const check = (): Loaded =>
    file === undefined
      ? loadConfig(loadInputOf(command, context))
      : checkFile(resolve(context.cwd, file), homeOf(context));
  try {
    const { files, warnings } = check();
    const names = files.map(({ path }) => path);
    output.data({ valid: true, files: names, problems: [], warnings }, (_value, style) =>
      [
        ...warnings.map((warning) => `${style.yellow(`warning: ${describeProblem(warning)}`)}\n  ${warning.remedy}`),
        `valid: ${near(names, context.cwd) || 'defaults only'}`,
      ].join('\n'),
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const { problems } = error;
    output.data({ valid: false, problems }, (_value, style) => problemLines(problems, context.cwd, style));
    // A program has its answer, and needs no second one on stderr.
    if (output.format === 'json') throw new Exit(EXIT.usage);
    const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
    throw new UserError(`the configuration has ${count}.`, { cause: error });
  }
}

const near = (files: string[], cwd: string): string => files.map((file) => shorten(file, cwd)).join(', ');

/** As seen from here, where that is inside; editors and terminals can follow both. */
function shorten(file: string, cwd: string): string {
  const path = relative(cwd, file);
  return path.startsWith('..') ? file : path;
}

const problemLines = (problems: readonly Problem[], cwd: string, style: Style): string =>
  problems
    .map((problem) => {
      const shown = { ...problem, file: problem.file && shorten(problem.file, cwd) };
      return `${style.red(describeProblem(shown))}\n  ${problem.remedy}`;
    })
    .join('\n');

function show(command: Command, context: CliContext, withOrigin: boolean): void {
  const output = outputOf(command, context);
  const loaded = configOf(command, context);
  if (!withOrigin) return output.data(loaded.config, (config) => stringify(config));
  const rows = valueRows(loaded);
  const value = Object.fromEntries(rows.map(({ key, value, origin }) => [key, { value, ...origin }]));
  output.data(value, (_value, style) =>
    table(
      [{ title: 'KEY' }, { title: 'VALUE' }, { title: 'ORIGIN' }],
      rows.map(({ key, value, origin }) => {
        const place = origin.file === undefined ? origin : { ...origin, file: shorten(origin.file, context.cwd) };
        const text = describeOrigin(place);
        return [
          key,
          typeof value === 'string' ? value : JSON.stringify(value),
          origin.from === 'default' ? style.dim(text) : text,
        ];
      }),
      style,
    ),
  );
}

const DEFAULT: Origin = { from: 'default' };

function valueRows({ config, origins }: Loaded) {
  return valuePaths(config).map((path) => {
    const key = formatPath(path);
    const value = path.reduce<unknown>((here, name) => (here as Record<string, unknown>)[name], config);
    return { key, value, origin: origins.get(key) ?? DEFAULT };
  });
}

function showPaths(command: Command, context: CliContext): void {
  const files = configFiles(loadInputOf(command, context)).map(({ role, path }) => ({
    role,
    path,
    exists: existsSync(path),
  }));
  outputOf(command, context).data(files, (list, style) =>
    table(
      [{ title: 'FILE' }, { title: 'PATH' }, { title: 'READ' }],
      list.map(({ role, path, exists }) => [role, path, exists ? 'yes' : 'no such file']),
      style,
    ),
  );
}
