/** Native services that were taken out of the configuration while they ran: their records still prove them ours. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Reaped } from '../services/driver.js';
import { canOwnProcesses, type Owning } from './canOwn.js';
import { LOG_LIMITS } from './logFile.js';
import { createSupervised } from './supervised.js';

interface ReapOptions {
  /** That of the driver. */
  stateDir: string;
  /** The native services of the configuration. */
  configured: readonly string[];
  graceMs: number;
  signal: AbortSignal;
  /** By default what this process sees of its surroundings. */
  owning?: Owning;
}

/** Ends what is proven, and nothing else. @returns what there was */
export async function reapRemovedServices(options: ReapOptions): Promise<Reaped[]> {
  const { stateDir, configured, owning = canOwnProcesses() } = options;
  if (!owning.ok) return [];
  const removed = (await namesIn(stateDir)).filter((name) => !configured.includes(name));
  const found = await Promise.all(removed.map((name) => reap(name, options)));
  return found.filter((each) => each !== null);
}

async function reap(name: string, { stateDir, graceMs, signal }: ReapOptions): Promise<Reaped | null> {
  const service = createSupervised(
    // Its program is not known any more; it is never started again.
    { name, argv: [name] },
    {
      folder: join(stateDir, encodeURIComponent(name)),
      logLimits: LOG_LIMITS,
      taken: () => new Set(),
      onChange: () => {},
      closed: signal,
    },
  );
  await service.look();
  const { state, pids } = service.sight();
  if (state === 'absent' && pids.length === 0) return null;
  return { service: name, pids, result: await service.stop(graceMs, signal) };
}

async function namesIn(stateDir: string): Promise<string[]> {
  try {
    const entries = await readdir(stateDir, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => decodeURIComponent(name));
  } catch (error) {
    // No native service was ever started here.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
