/** A main: the workers. `node dist/worker.js --role control|agent|all [--config FILE]` */

import { homedir } from 'node:os';
import { Command, Option } from 'commander';
import { pino } from 'pino';
import { SecondAgent } from './agent/lock.js';
import { TokenError } from './agent/token.js';
import { EXIT } from './cli/exitCodes.js';
import { explain, UserError } from './cli/userError.js';
import { foldersOf } from './config/folders.js';
import { loadConfig } from './config/load.js';
import { withSimulator } from './config/simulatorOverlay.js';
import { isMain } from './isMain.js';
import { runAgent } from './roles/agent.js';
import { runControl } from './roles/control.js';
import { logThrough } from './roles/logging.js';
import { version } from './version.js';

export type Role = 'control' | 'agent' | 'all';

export interface WorkerOptions {
  role: Role;
  config?: string;
  env: NodeJS.ProcessEnv;
  cwd: string;
}

/** Runs the roles until SIGTERM or SIGINT. @returns the exit code */
export async function runWorker({ role, config: file, env, cwd }: WorkerOptions): Promise<number> {
  const homeDir = env['HOME'] ?? homedir();
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort(new Error(name)));
  try {
    const loaded = loadConfig({ argv: { config: file, overrides: {} }, env, cwd, homeDir });
    const { config } = withSimulator(loaded, env);
    const log = pino({ level: config.log_level, base: { role, host: config.host } }, pino.destination(2));
    logThrough(log);
    const folders = foldersOf(config.data_dir, { env, homeDir });
    const simulated = env['VRAMFLOW_SIMULATOR'] !== undefined;
    const agent = () => runAgent({ config, folders, simulated, version, log, signal: stop.signal });
    const control = () => runControl(config, log, stop.signal);
    const runs = { agent: [agent], control: [control], all: [control, agent] }[role];
    await Promise.all(runs.map((run) => run()));
    return EXIT.ok;
  } catch (error) {
    if (stop.signal.aborted) return EXIT.ok;
    return report(error);
  }
}

function report(error: unknown): number {
  const known = explain(error);
  if (known instanceof UserError) {
    process.stderr.write(`${known.lines().join('\n')}\n`);
    return known.exitCode;
  }
  if (error instanceof SecondAgent || error instanceof TokenError) {
    process.stderr.write(`error: ${error.message}\n`);
    return EXIT.unavailable;
  }
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    process.stderr.write(
      `error: ${error.message}\n  Another program listens there: set agent.listen to a free port.\n`,
    );
    return EXIT.unavailable;
  }
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return EXIT.unexpected;
}

if (isMain(import.meta.url)) {
  const program = new Command('worker')
    .addOption(
      new Option('--role <role>', 'what this process does').choices(['control', 'agent', 'all']).default('all'),
    )
    .option('--config <file>', 'the configuration file')
    .parse();
  const { role, config } = program.opts<{ role: Role; config?: string }>();
  const code = await runWorker({ role, ...(config ? { config } : {}), env: process.env, cwd: process.cwd() });
  process.exit(code);
}
