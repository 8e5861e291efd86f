/** vramflow's own Temporal server outlives a supervisor, so it is nobody's child: it is looked at, and started again when it died. */
import { setTimeout as delay } from 'node:timers/promises';

import { EmbeddedServerError } from './errors.js';
import { nextRestart, RESTART_POLICY } from './restartPolicy.js';
import { findRunning } from './server.js';

const LOOK_MS = 1_000;

export interface KeepServerOptions {
  dataFolder: string;
  /** Starts it, and resolves when it answers. */
  start: (signal: AbortSignal) => Promise<unknown>;
  say: (line: string) => void;
  signal: AbortSignal;
}

/**
 * Runs until the signal.
 * @throws EmbeddedServerError `child-failed` when it keeps dying
 */
export async function keepServer({ dataFolder, start, say, signal }: KeepServerOptions): Promise<void> {
  let quickDeaths = 0;
  let begun = Date.now();
  while (!signal.aborted) {
    if ((await findRunning(dataFolder)) !== null) {
      await pause(LOOK_MS, signal);
      continue;
    }
    const next = nextRestart(quickDeaths, Date.now() - begun, RESTART_POLICY);
    if (next === 'give-up') {
      throw new EmbeddedServerError(
        'child-failed',
        `Temporal ended ${RESTART_POLICY.maxQuickDeaths} times in a row soon after its start.`,
        'The lines above say why. Correct that, then start again.',
      );
    }
    quickDeaths = next.quickDeaths;
    say(`Temporal has ended; it starts again in ${next.delayMs} ms.`);
    await pause(next.delayMs, signal);
    if (signal.aborted) return;
    begun = Date.now();
    await start(signal).catch((error: unknown) => {
      if (signal.aborted) return;
      if (!(error instanceof EmbeddedServerError)) throw error;
      say(`${error.message} ${error.remedy}`);
    });
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  delay(ms, undefined, { signal }).catch(() => undefined);
