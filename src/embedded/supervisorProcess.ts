/** Starts the supervisor as a process that outlives the command line, and shows what it says. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

import { requireWritable } from './dataFolder.js';
import { type Detached, startDetached } from './detached.js';
import { EmbeddedServerError } from './errors.js';
import { findSupervisor, type SupervisorRecord, supervisorFiles, supervisorMarker } from './supervisor.js';

const POLL_MS = 100;

/** @throws EmbeddedServerError `data-folder`; what spawn reports */
export async function startSupervisor(options: {
  dataFolder: string;
  command: string;
  args: readonly string[];
  env: NodeJS.ProcessEnv;
  cwd: string;
}): Promise<Detached> {
  const { dataFolder, ...start } = options;
  await requireWritable(dataFolder);
  return startDetached({ ...start, marker: supervisorMarker(dataFolder), logFile: supervisorFiles(dataFolder).log });
}

/**
 * Waits until the supervisor of this data folder is ready.
 * @param ended becomes true when the one that was started has ended
 * @throws EmbeddedServerError `died`, `not-ready`; the signal's reason
 */
export async function waitSupervisor(options: {
  dataFolder: string;
  ended: () => boolean;
  readyMs: number;
  signal: AbortSignal;
}): Promise<SupervisorRecord> {
  const { dataFolder, ended, readyMs, signal } = options;
  const until = Date.now() + readyMs;
  const { log } = supervisorFiles(dataFolder);
  for (;;) {
    signal.throwIfAborted();
    const found = await findSupervisor(dataFolder);
    if (found?.ready === true) return found;
    // Ended, but another start may have won: then that one is waited for.
    if (found === null && ended()) {
      throw new EmbeddedServerError('died', 'vramflow ended before it was ready.', `What it said last is in ${log}`);
    }
    if (Date.now() >= until) {
      const message = `vramflow was not ready in ${Math.round(readyMs / 1000)} s.`;
      throw new EmbeddedServerError('not-ready', message, `What it waits for is in ${log}; \`vramflow down\` ends it.`);
    }
    await delay(POLL_MS);
  }
}

/** Passes on what is appended to a file, until the signal; then what is left. */
export async function follow(
  file: string,
  offset: number,
  write: (text: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let position = offset;
  for (let last = false; ; last = signal.aborted) {
    const size = await stat(file).then(
      (found) => found.size,
      () => position,
    );
    if (size > position) {
      for await (const chunk of createReadStream(file, { start: position, end: size - 1, encoding: 'utf8' })) {
        write(String(chunk));
      }
      position = size;
    }
    if (last) return;
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}
