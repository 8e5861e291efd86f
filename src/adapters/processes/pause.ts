import { setTimeout as delay } from 'node:timers/promises';

/** Waits so many ms; rejects with the signal's own reason on abort. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  }
}
