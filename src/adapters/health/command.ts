import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import { cleanEnvironment } from '../processes/environment.js';
import { killByHandle } from '../processes/spawn.js';
import { createProbe, type HealthProbe } from './check.js';

/** So much of the output is kept, from its beginning. */
const OUTPUT_BYTES = 4_096;
/** The output of a command that has ended may still come for so long; a child that it left may hold it open for ever. */
const DRAIN_MS = 100;

export interface CommandProbeOptions {
  argv: [string, ...string[]];
  /** Beside a clean base. */
  env?: Record<string, string>;
  cwd?: string;
  /** 10,000 by default. */
  timeoutMs?: number;
}

/**
 * Well is exit code 0. One that takes too long is killed, with all that it started in its group; while that does not end it,
 * no other is started. No shell.
 */
export function createCommandProbe({ argv, env, cwd, timeoutMs }: CommandProbeOptions): HealthProbe {
  const [program, ...args] = argv;
  let last: ChildProcess | null = null;
  return createProbe(async (signal) => {
    if (last?.pid !== undefined && last.exitCode === null && last.signalCode === null) {
      await once(last, 'exit', { signal });
    }
    const child = spawn(program, args, {
      env: { ...cleanEnvironment(), ...env },
      cwd,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    last = child;
    const kill = () => killByHandle(child, 'SIGKILL');
    signal.addEventListener('abort', kill, { once: true });
    try {
      const output = [beginningOf(child.stdout), beginningOf(child.stderr)];
      const closed = once(child, 'close');
      closed.catch(() => {}); // A failed spawn is told by `exit` below.
      const [code, endedBy] = (await once(child, 'exit')) as [number | null, string | null];
      await Promise.race([closed, delay(DRAIN_MS)]);
      const said =
        output
          .map((read) => read().trim())
          .find((text) => text !== '')
          ?.split('\n')[0] ?? '';
      const how = code === null ? `was ended by ${endedBy}` : `exit code ${code}`;
      return { ok: code === 0, detail: `${program}: ${how}${said === '' ? '' : `: ${said.slice(0, 200)}`}` };
    } finally {
      signal.removeEventListener('abort', kill);
      child.stdout.destroy();
      child.stderr.destroy();
    }
  }, timeoutMs);
}

function beginningOf(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  let bytes = 0;
  stream.on('data', (chunk: Buffer) => {
    if (bytes < OUTPUT_BYTES) chunks.push(chunk);
    bytes += chunk.length;
  });
  return () => Buffer.concat(chunks).subarray(0, OUTPUT_BYTES).toString('utf8');
}
