/** The driver of native services: processes of this machine that outlive the agent and are proven, never remembered. */
import { join } from 'node:path';

import { readTable } from '../processes/tree.js';
import { type ServiceChange, type ServiceDriver, ServiceError, type ServiceSight } from '../services/driver.js';
import { canOwnProcesses, type Owning } from './canOwn.js';
import { LOG_LIMITS, type LogLimits } from './logFile.js';
import type { NativeService } from './service.js';
import { createSupervised, type Supervised } from './supervised.js';

/** P8: the end of a run that is not our child is seen within this. */
const WATCH_EVERY_MS = 1_000;
/** Every so many watches all of /proc is looked through: what was started by hand, and which processes belong to what. */
const LOOK_EVERY_WATCHES = 10;

export interface NativeDriverOptions {
  services: readonly NativeService[];
  /** Of this driver alone: a folder a service, with its ownership records and its output. */
  stateDir: string;
  /** By default what this process sees of its surroundings. */
  owning?: Owning;
  logLimits?: LogLimits;
}

export function createNativeDriver(options: NativeDriverOptions): ServiceDriver {
  const { services, stateDir, owning = canOwnProcesses(), logLimits = LOG_LIMITS } = options;
  const listeners = new Set<(change: ServiceChange) => void>();
  const closing = new AbortController();
  const supervised = new Map<string, Supervised>();
  for (const service of services) {
    supervised.set(
      service.name,
      createSupervised(service, {
        folder: join(stateDir, encodeURIComponent(service.name)),
        logLimits,
        taken: () => takenByOthers(service.name),
        onChange: (change) => {
          for (const listener of listeners) listener(change);
        },
        closed: closing.signal,
      }),
    );
  }
  const takenByOthers = (name: string): ReadonlySet<number> =>
    new Set([...supervised].flatMap(([other, { sight }]) => (other === name ? [] : sight().pids)));

  const find = (name: string): Supervised => {
    const found = supervised.get(name);
    if (found !== undefined) return found;
    throw new ServiceError('missing', `There is no native service ${name}.`, 'Name one of the configuration.');
  };
  const checkOwning = (): void => {
    if (!owning.ok) throw new ServiceError('not-permitted', owning.reason, owning.remedy);
  };

  async function look(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!owning.ok) return;
    const table = await readTable();
    // One after the other: what one service has, another cannot match.
    for (const each of supervised.values()) {
      signal.throwIfAborted();
      await each.look(table);
    }
  }

  let watches = 0;
  let watching: Promise<void> | null = null;
  async function watch(): Promise<void> {
    watches++;
    for (const each of supervised.values()) {
      if (await each.hasEnded()) await each.look();
      await each.log.rotateIfLarge();
    }
    if (watches % LOOK_EVERY_WATCHES === 0 && mayChangeUnseen()) await look(closing.signal);
  }
  /** Runs get and lose processes, and what has a match can be started by hand; all else the driver does itself. */
  const mayChangeUnseen = (): boolean =>
    services.some(({ match }) => match !== undefined) ||
    [...supervised.values()].some(({ sight }) => sight().pids.length > 0);
  const timer = setInterval(() => {
    if (!owning.ok || watching !== null) return;
    watching = watch()
      .catch((error: unknown) => {
        // A full disk, say. The next watch tries again.
        if (!closing.signal.aborted) process.emitWarning(`Watching native services: ${(error as Error).message}`);
      })
      .finally(() => {
        watching = null;
      });
  }, WATCH_EVERY_MS);
  timer.unref();

  return {
    id: 'native',
    problem: () => (owning.ok ? null : `${owning.reason} ${owning.remedy}`),
    sights: () => [...supervised.values()].map((each): ServiceSight => each.sight()),
    look,
    async start(service, { gpus, signal }) {
      checkOwning();
      return find(service).start(gpus, signal);
    },
    async stop(service, { graceMs, signal }) {
      checkOwning();
      return find(service).stop(graceMs, signal);
    },
    logs: (service, logOptions) => find(service).log.lines(logOptions),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      clearInterval(timer);
      closing.abort(new Error('The driver was closed.'));
      await watching;
    },
  };
}
