import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** A worker of the build as a real process, so that it can be killed like one. */
export interface WorkerProcess {
  readonly pid: number;
  /** What it printed so far, for the message of a failed test. */
  readonly log: () => string;
  /** `kill -9`; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves when it is gone. */
  stop(): Promise<void>;
  /** Its exit code, once it has ended. */
  readonly ended: Promise<number | null>;
}

const WORKER = fileURLToPath(new URL('../../dist/worker.js', import.meta.url));

export function startWorker(role: 'control' | 'agent', env: NodeJS.ProcessEnv): WorkerProcess {
  const child: ChildProcess = spawn(process.execPath, [WORKER, '--role', role], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      log += data.toString();
    });
  }
  const exited = once(child, 'exit').then(([code]) => code as number | null);
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await exited;
  };
  if (child.pid === undefined) throw new Error(`the ${role} worker did not start`);
  return { pid: child.pid, log: () => log, kill: () => end('SIGKILL'), stop: () => end('SIGTERM'), ended: exited };
}

/** A command of the build that goes on until Ctrl-C, as a real process. */
export interface LastingCommand {
  /** Its next line on stdout; rejects when there is none any more. */
  next(): Promise<string>;
  /** Its next line on stderr. */
  nextSaid(): Promise<string>;
  /** Ctrl-C; resolves when it is gone. */
  interrupt(): Promise<{ code: number | null; said: string }>;
}

/** The command line of the build. */
export const CLIENT = fileURLToPath(new URL('../../dist/client.js', import.meta.url));

export function startCommand(env: NodeJS.ProcessEnv, ...argv: string[]): LastingCommand {
  const child = spawn(process.execPath, [CLIENT, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  const exited = once(child, 'exit');
  const nextOf = (stream: Readable) => {
    const lines = createInterface({ input: stream })[Symbol.asyncIterator]();
    return async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error(`vramflow ${argv.join(' ')} has ended: ${said}`);
      return value;
    };
  };
  return {
    next: nextOf(child.stdout),
    nextSaid: nextOf(child.stderr),
    async interrupt() {
      child.kill('SIGINT');
      const [code] = (await exited) as [number | null];
      return { code, said };
    },
  };
}
