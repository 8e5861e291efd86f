/** A main: the workers. `node dist/worker.js --role control|agent|all [--config FILE]` */

import { homedir } from 'node:os';
import { Command, Option } from 'commander';
import { pino } from 'pino';
import pretty from 'pino-pretty';
import { EXIT } from './cli/exitCodes.js';
import { READABLE } from './cli/readableLog.js';
import { reportError } from './cli/reportError.js';
import { foldersOf } from './config/folders.js';
import { loadConfig } from './config/load.js';
import { withSimulator } from './config/simulatorOverlay.js';
import { isMain } from './isMain.js';
import { logThrough } from './roles/logging.js';
import { version } from './version.js';

export type Role = 'control' | 'agent' | 'all';

export interface WorkerOptions {
  role: Role;
  config?: string | undefined;
  /** Values of the configuration for this run. */
  set?: Record<string, string> | undefined;
  /** JSON lines also on a terminal; elsewhere they are JSON anyway. */
  json?: boolean;
  env: NodeJS.ProcessEnv;
  cwd: string;
}

/** Runs the roles until SIGTERM or SIGINT. @throws ConfigError, SecondAgent, TokenError */
export async function runWorker({ role, config: file, set, json, env, cwd }: WorkerOptions): Promise<void> {
  const homeDir = env['HOME'] ?? homedir();
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.once(name, () => stop.abort(new Error(name)));
  try {
    const loaded = loadConfig({ argv: { config: file, overrides: set ?? {} }, env, cwd, homeDir });
    const { config } = withSimulator(loaded, env);
    const destination = process.stderr.isTTY && !json ? pretty({ ...READABLE, destination: 2 }) : pino.destination(2);
    const log = pino({ level: config.log_level, base: { role, host: config.host } }, destination);
    logThrough(log);
    const folders = foldersOf(config.data_dir, { env, homeDir });
    const simulated = env['VRAMFLOW_SIMULATOR'] !== undefined;
    // A role loads only what it needs.
    const agent = async () => {
      const { runAgent } = await import('./roles/agent.js');
      await runAgent({ config, folders, simulated, version, log, signal: stop.signal });
    };
    const control = async () => {
      const { runControl } = await import('./roles/control.js');
      await runControl(config, log, stop.signal);
    };
    const runs = { agent: [agent], control: [control], all: [control, agent] }[role];
    await Promise.all(runs.map((run) => run()));
  } catch (error) {
    if (stop.signal.aborted) return;
    // The other role must not keep the process alive.
    stop.abort(error);
    throw error;
  }
}

if (isMain(import.meta.url)) {
  const program = new Command('worker')
    .addOption(
      new Option('--role <role>', 'what this process does').choices(['control', 'agent', 'all']).default('all'),
    )
    .option('--config <file>', 'the configuration file')
    .parse();
  const { role, config } = program.opts<{ role: Role; config?: string }>();
  const code = await runWorker({ role, config, env: process.env, cwd: process.cwd() }).then(
    () => EXIT.ok,
    (error: unknown) => reportError(error, 'text', process.stderr),
  );
  process.exit(code);
}
