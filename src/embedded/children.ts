/** One child of the supervisor: started, its lines passed on, started again when it dies, ended gracefully. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import { EmbeddedServerError } from './errors.js';
import { OWNER_VARIABLE } from './processProof.js';
import { nextRestart, type RestartPolicy } from './restartPolicy.js';

export interface ChildSpec {
  /** Stands before each of its lines. */
  name: string;
  command: string;
  args: readonly string[];
  env: NodeJS.ProcessEnv;
}

export interface ChildWatch {
  say: (line: string) => void;
  /** In the child's environment: a successor finds the child by it. */
  marker: string;
  policy: RestartPolicy;
  /** From SIGTERM to SIGKILL at the end. */
  graceMs: number;
  /** Ends the child, then resolves. */
  signal: AbortSignal;
}

/**
 * Runs until the signal.
 * @throws EmbeddedServerError `child-failed` when it keeps dying
 */
export async function keepRunning(spec: ChildSpec, watch: ChildWatch): Promise<void> {
  let quickDeaths = 0;
  while (!watch.signal.aborted) {
    const begun = Date.now();
    const how = await runOnce(spec, watch);
    if (watch.signal.aborted) return;
    const next = nextRestart(quickDeaths, Date.now() - begun, watch.policy);
    if (next === 'give-up') {
      throw new EmbeddedServerError(
        'child-failed',
        `The ${spec.name} ended ${watch.policy.maxQuickDeaths} times in a row soon after its start, the last time with ${how}.`,
        'Its lines above say why. Correct that, then start again.',
      );
    }
    quickDeaths = next.quickDeaths;
    watch.say(`The ${spec.name} ended with ${how}; it starts again in ${next.delayMs} ms.`);
    await delay(next.delayMs, undefined, { signal: watch.signal }).catch(() => undefined);
  }
}

async function runOnce(spec: ChildSpec, watch: ChildWatch): Promise<string> {
  const child = spawn(spec.command, spec.args, {
    // A group of its own: Ctrl-C in the terminal is the supervisor's to hear.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...spec.env, [OWNER_VARIABLE]: watch.marker },
  });
  const exited = exitOf(child);
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => watch.say(`[${spec.name}] ${line}`));
  }
  const end = () => signalGroup(child, 'SIGTERM');
  watch.signal.addEventListener('abort', end, { once: true });
  try {
    if (watch.signal.aborted) end();
    return await Promise.race([exited, killLate(child, watch)]);
  } finally {
    watch.signal.removeEventListener('abort', end);
  }
}

/** After the signal and the grace, kills what is left, and answers once it is gone. */
async function killLate(child: ChildProcess, watch: ChildWatch): Promise<string> {
  if (!watch.signal.aborted) await once(watch.signal, 'abort');
  await Promise.race([exitOf(child), delay(watch.graceMs, undefined, { ref: false })]);
  signalGroup(child, 'SIGKILL');
  return exitOf(child);
}

async function exitOf(child: ChildProcess): Promise<string> {
  if (child.exitCode !== null) return `exit code ${child.exitCode}`;
  if (child.signalCode !== null) return child.signalCode;
  return new Promise((done) => {
    child.once('exit', (code, signal) => done(signal ?? `exit code ${code}`));
    child.once('error', (error) => done(error.message));
  });
}

/** The pid is still the child's: its exit was not seen here. */
function signalGroup(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  process.kill(process.platform === 'win32' ? child.pid : -child.pid, signal);
}
