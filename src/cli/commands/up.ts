/** `vramflow up`: brings this host's vramflow up, once, and keeps it up. */
import { stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { Command, Option } from 'commander';

import { type Folders, foldersOf } from '../../config/folders.js';
import type { Loaded } from '../../config/load.js';
import {
  type Facts,
  findSupervisor,
  runSupervisor,
  stopSupervisor,
  supervisorFiles,
} from '../../embedded/supervisor.js';
import { follow, startSupervisor, waitSupervisor } from '../../embedded/supervisorProcess.js';
import { bringUp, DEFAULT_PRESET, DIST } from '../bringUp.js';
import type { CliContext } from '../context.js';
import { embeddedUserError } from '../embeddedUserError.js';
import { Exit, exitWith } from '../exit.js';
import { EXIT, type ExitCode } from '../exitCodes.js';
import { configOf, type GlobalOptions, homeOf, outputOf } from '../globalOptions.js';
import { isColoured, type Output } from '../output.js';
import { readableLog } from '../readableLog.js';

/** A first start may build Temporal: a bound for all of it. */
const READY_MS = 40 * 60_000;

interface UpOptions extends GlobalOptions {
  simulate?: string | true;
  detach?: boolean;
  supervise?: boolean;
}

export function upCommand(context: CliContext): Command {
  return new Command('up')
    .description('start Temporal, the agent and the control worker on this host, and keep them running')
    .option('--simulate [preset]', `a simulated host instead of real hardware (default: ${DEFAULT_PRESET})`)
    .option('--detach', 'go on in the background once all is ready')
    .addOption(new Option('--supervise', 'be the background process itself').hideHelp())
    .action(async (_options, command: Command) => {
      const options = command.optsWithGlobals<UpOptions>();
      await (options.supervise === true ? supervise(command, context, options) : up(command, context, options)).catch(
        embeddedUserError,
      );
    });
}

async function up(command: Command, context: CliContext, options: UpOptions): Promise<void> {
  const output = outputOf(command, context);
  const loaded = configOf(command, context);
  const { data } = folders(loaded, context);
  const [phase] = Object.keys(loaded.config.phases);
  const example = phase === undefined ? 'mode recording' : `phase prepare ${phase}`;
  const running = await findSupervisor(data);
  if (running?.ready === true && running.facts !== null) {
    output.talk('vramflow runs already. To run it with other options, end it first: `vramflow down`.');
    return tell(output, running.facts, data, example);
  }
  const interrupted = interruption();
  const { log } = supervisorFiles(data);
  const offset = await sizeOf(log);
  const started = running === null ? await launch(data, context, options) : null;
  if (started === null) output.talk('vramflow is being started already; waiting for it.');
  let ended: ExitCode | null = null;
  const exited = started?.exited.then(({ code }) => {
    ended = (code ?? EXIT.unexpected) as ExitCode;
    return ended;
  });
  const followed = new AbortController();
  const show = (text: string) => void context.stderr.write(text);
  const passOn =
    output.format === 'json' ? show : readableLog(show, { colorize: isColoured(context.stderr, context.env) });
  const following = follow(log, started?.logOffset ?? offset, passOn, followed.signal);
  try {
    const signal = interrupted.signal;
    const { facts } = await waitSupervisor({
      dataFolder: data,
      ended: () => ended !== null,
      readyMs: READY_MS,
      signal,
    });
    if (facts !== null) tell(output, facts, data, example);
    if (options.detach === true || exited === undefined) return;
    output.talk('Ctrl-C ends the workers; Temporal goes on.');
    exitWith((await Promise.race([exited, interrupted.happened])) ?? EXIT.ok);
  } catch (error) {
    // Nothing is up.
    if (interrupted.signal.aborted) throw new Exit(EXIT.interrupted);
    // Its own words, passed on above, have said why.
    throw ended === null ? error : new Exit(ended);
  } finally {
    if (interrupted.signal.aborted && started !== null) await end(output, data);
    followed.abort();
    await following;
    interrupted.dispose();
  }
}

async function end(output: Output, dataFolder: string): Promise<void> {
  output.talk('Ending the workers …');
  await stopSupervisor(dataFolder);
  output.talk('The workers have ended. Temporal, services and models go on; `vramflow down` ends Temporal too.');
}

function launch(dataFolder: string, context: CliContext, options: UpOptions) {
  const simulate =
    options.simulate === true ? ['--simulate'] : options.simulate ? ['--simulate', options.simulate] : [];
  return startSupervisor({
    dataFolder,
    command: process.execPath,
    args: [join(DIST, 'client.js'), 'up', '--supervise', ...simulate, ...globalArguments(options, context.cwd)],
    env: context.env,
    cwd: context.cwd,
  });
}

/** In the background process: everything until the signal that ends it. */
async function supervise(command: Command, context: CliContext, options: UpOptions): Promise<void> {
  const loaded = configOf(command, context);
  const where = folders(loaded, context);
  const say = (line: string) => void context.stderr.write(`${line}\n`);
  const interrupted = interruption();
  try {
    await runSupervisor({
      dataFolder: where.data,
      say,
      signal: interrupted.signal,
      bringUp: (signal) => bringUp({ loaded, where, context, options, say, signal }),
    });
  } finally {
    interrupted.dispose();
  }
}

/** The global options again, for a process of our own. */
function globalArguments({ config, set, output }: UpOptions, cwd: string): string[] {
  const format = output === 'json' ? ['-o', 'json'] : [];
  const file = config === undefined ? [] : ['--config', resolve(cwd, config)];
  return [...format, ...file, ...Object.entries(set ?? {}).flatMap(([key, value]) => ['--set', `${key}=${value}`])];
}

const folders = ({ config }: Loaded, context: CliContext): Folders =>
  foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });

/** @param example a command that shows what this configuration is for */
function tell(output: Output, facts: Facts, dataFolder: string, example: string): void {
  const { log } = supervisorFiles(dataFolder);
  output.data({ ...facts, log }, (_value, style) => {
    const simulated = facts.simulated === null ? '' : style.yellow(` · SIMULATED hardware (${facts.simulated})`);
    return [
      `${style.bold(`vramflow runs on ${facts.host}`)}${simulated}`,
      `  Temporal  ${facts.temporal}`,
      `  Web UI    ${facts.webUi ?? '(of the given server)'}`,
      `  agent     ${facts.agent}`,
      `  log       ${log}`,
      'Try next:',
      '  bin/vramflow.js status',
      `  bin/vramflow.js ${example}`,
      '  bin/vramflow.js events --follow',
      '  bin/vramflow.js down',
    ].join('\n');
  });
}

async function sizeOf(file: string): Promise<number> {
  return stat(file).then(
    ({ size }) => size,
    () => 0,
  );
}

/** Ctrl-C, a TERM, or the end of the terminal. */
function interruption(): { signal: AbortSignal; happened: Promise<void>; dispose(): void } {
  const controller = new AbortController();
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const abort = () => controller.abort();
  for (const name of names) process.on(name, abort);
  return {
    signal: controller.signal,
    happened: new Promise<void>((done) => controller.signal.addEventListener('abort', () => done(), { once: true })),
    dispose() {
      for (const name of names) process.off(name, abort);
    },
  };
}
