/** Waits for a started embedder to be ready, and says why when it will not be. */
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';

import { pause } from '../processes/pause.js';
import { timeLimit } from '../timeLimit.js';
import type { EmbedderRecord } from './embedderRecord.js';
import { abortError, EmbedderError, startFailureKind } from './failure.js';
import { readHealth, type WireHealth } from './wire.js';

const LOOK_EVERY_MS = 40;
/** A process that loads a model may be deaf for a moment. */
const ANSWER_MS = 2_000;
/** One that has not said anything for so long hangs. It is deaf while it loads its model, from a slow disk maybe. */
const DEAF_MS = 300_000;
/** Lines of the log that an error quotes. */
const TAIL_LINES = 5;

/**
 * @param watched.onProgress gets each new line of the process's log
 * @throws EmbedderError when it fails, ends, or runs on another device than asked; on abort `timeout` or the reason
 */
export async function waitUntilReady(
  record: EmbedderRecord,
  watched: {
    handle: ChildProcess;
    gpuProvider: string;
    signal: AbortSignal;
    onProgress: ((line: string) => void) | undefined;
  },
): Promise<WireHealth> {
  const { handle, signal } = watched;
  let told = 0;
  let heardAt = performance.now();
  try {
    for (;;) {
      signal.throwIfAborted();
      // Read before the health: what a process says last comes after its log.
      const ended = handle.exitCode !== null || handle.signalCode !== null;
      const lines = await readLines(record.log);
      for (const line of lines.slice(told)) watched.onProgress?.(line);
      told = lines.length;
      if (ended) throw endedEarly(record.device, handle, lines);
      const health = await healthOrNull(record.socket, signal);
      if (health !== null) heardAt = performance.now();
      else if (performance.now() - heardAt > DEAF_MS) throw deaf(record.device);
      if (health?.state === 'ready') return expectDevice(health, record.device, watched.gpuProvider);
      if (health?.state === 'failed') {
        const reason = health.error ?? 'it does not say why';
        throw new EmbedderError(startFailureKind(record.device, reason), `CLIP failed on ${record.device}: ${reason}`);
      }
      await pause(LOOK_EVERY_MS, signal);
    }
  } catch (error) {
    throw signal.aborted ? abortError(signal, `The start of CLIP on ${record.device}`) : error;
  }
}

/** The error of a program that could not even be started. */
export function startError(cause: unknown, device: string, command: string[]): EmbedderError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new EmbedderError('start-failed', `CLIP cannot be started on ${device} by ${command[0]}: ${reason}`, {
    cause,
  });
}

/** Law 7: a process that runs elsewhere than asked is a failure, never a quiet fall-back. */
function expectDevice(health: WireHealth, device: string, gpuProvider: string): WireHealth {
  const quietlyOnCpu = device === 'cuda' && gpuProvider !== 'cpu' && health.provider === 'cpu';
  if (health.device === device && !quietlyOnCpu) return health;
  throw new EmbedderError(
    'protocol',
    `CLIP was asked for ${device} and runs on ${health.device} (${health.provider}).`,
  );
}

async function healthOrNull(socket: string, signal: AbortSignal): Promise<WireHealth | null> {
  try {
    return await readHealth(socket, AbortSignal.any([signal, timeLimit(ANSWER_MS)]));
  } catch (error) {
    // Not listening yet, or busy: the next look tells.
    if (error instanceof EmbedderError && (error.kind === 'gone' || error.kind === 'timeout')) return null;
    throw error;
  }
}

const deaf = (device: string): EmbedderError =>
  new EmbedderError('timeout', `CLIP on ${device} has not answered for ${DEAF_MS / 1_000} s.`);

function endedEarly(device: 'cpu' | 'cuda', handle: ChildProcess, lines: string[]): EmbedderError {
  const how = handle.signalCode === null ? `with code ${handle.exitCode}` : `by ${handle.signalCode}`;
  const said = lines.slice(-TAIL_LINES).join(' | ');
  const kind = startFailureKind(device, lines.join('\n'));
  return new EmbedderError(kind, `CLIP on ${device} ended ${how} before it was ready: ${said || 'it said nothing'}`);
}

/** Whole lines only: the last one may still grow. */
async function readLines(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8')).split('\n').slice(0, -1);
}
