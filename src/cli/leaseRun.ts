/**
 * Runs a command under a lease: renews meanwhile, ends it when the lease is lost, and gives the lease back once nothing
 * that the command has started holds memory any more.
 */
import { spawn } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import type { LeaseState } from '../contracts/lease.js';
import { cudaEnvironment } from '../contracts/names.js';
import type { Leases } from '../gateway/leases.js';
import { CommandTree } from './commandTree.js';
import type { CliContext } from './context.js';
import { EXIT } from './exitCodes.js';
import type { Output } from './output.js';
import { PATIENCE_MS } from './patience.js';
import { UserError } from './userError.js';

const LOOK_MS = 300;
/** It is renewed this many times within the time to live. */
const RENEWALS = 3;
/** From SIGTERM to SIGKILL of the command of a revoked lease; below the grace that it has. */
const TERM_MS = 7_000;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A command must not go on without Temporal for longer than its lease is sure to live. */
export const patienceOf = (ttlSeconds: number): number => Math.min(PATIENCE_MS, (ttlSeconds * 1_000) / RENEWALS);

/** The command sees the GPUs that it was granted and no others, where these are known. @returns its exit code */
export async function runHolding(
  leases: Leases,
  { id, ttlSeconds, gpus }: LeaseState,
  [program = '', ...args]: string[],
  { env, cwd }: CliContext,
  output: Output,
): Promise<number> {
  const tree = new CommandTree();
  // In the group of this process: a terminal's Ctrl-C reaches it, and it may read from the terminal.
  const child = spawn(program, args, {
    stdio: 'inherit',
    env: { ...tree.marked(env), ...cudaEnvironment(gpus) },
    cwd,
  });
  tree.watch(child);
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (error) => reject(cannotStart(program, error)));
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? EXIT.interrupted : EXIT.failed)));
  });
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of SIGNALS) process.on(signal, forward);
  const over = new AbortController();
  const watching = (async () => {
    let renewAt = Date.now() + (ttlSeconds * 1_000) / RENEWALS;
    while (!over.signal.aborted) {
      await pause(LOOK_MS);
      const { state, reason } = await leases.state(id);
      if (over.signal.aborted) return;
      if (state !== 'held') {
        output.talk(
          `  lease ${id} ${state === 'revoked' ? REVOKED : `has ended (${reason ?? '?'})`}: ending ${program}`,
        );
        await tree.end(TERM_MS);
        return;
      }
      if (Date.now() < renewAt) continue;
      await leases.renew(id, ttlSeconds);
      renewAt = Date.now() + (ttlSeconds * 1_000) / RENEWALS;
    }
  })();
  try {
    // Who cannot renew must not go on as if it held the lease: the command ends with it.
    return await Promise.race([ended, watching.then(() => ended)]);
  } finally {
    over.abort();
    await tree.end(TERM_MS);
    for (const signal of SIGNALS) process.off(signal, forward);
    await leases.release(id).catch(() => undefined);
  }
}

const REVOKED = 'is revoked, something of higher priority needs its memory';

function cannotStart(program: string, cause: Error): UserError {
  return new UserError(`${program} cannot be started: ${cause.message}`, {
    exitCode: EXIT.notExecutable,
    code: 'not-executable',
    remedy:
      'See that it runs without vramflow; a script needs a first line such as #!/bin/sh. The lease is given back.',
    cause,
  });
}
