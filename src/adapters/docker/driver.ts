/** The driver of services in Docker containers. What it knows, Docker told: it watches events, and remembers no state. */
import { pause } from '../processes/pause.js';
import { type ServiceChange, type ServiceDriver, ServiceError } from '../services/driver.js';
import type { DaemonAddress } from './address.js';
import { createDaemon } from './daemon.js';
import { type ContainerEvent, readEvents } from './events.js';
import { NoAnswer } from './failures.js';
import { exitWith } from './inspection.js';
import type { DockerService } from './service.js';
import { createSupervised, type Supervised } from './supervised.js';

/** From the loss of the daemon to the next try, doubled up to the second figure. */
const RETRY_MS = { first: 100, longest: 5_000 };

/**
 * Events tell what begins and ends. So often the driver looks all the same: processes of a container come and go without
 * an event, and a daemon that hangs keeps its stream of events open.
 */
const LOOK_EVERY_MS = 10_000;

export interface DockerDriverOptions {
  daemon: DaemonAddress;
  services: readonly DockerService[];
  /** Whose containers these are: written on each as a label, and what is not so labelled is a stranger's. */
  owner: string;
  /** Epoch ms. */
  now?: () => number;
}

/** @throws TypeError for a daemon that is not on this machine */
export function createDockerDriver(options: DockerDriverOptions): ServiceDriver {
  const { services, owner, now = Date.now } = options;
  const daemon = createDaemon(options.daemon);
  const listeners = new Set<(change: ServiceChange) => void>();
  const closing = new AbortController();
  const closed = closing.signal;
  let problem: string | null = null;

  const tell = (change: ServiceChange): void => {
    for (const listener of listeners) listener(change);
  };
  const supervised = new Map<string, Supervised>();
  for (const service of services) {
    supervised.set(service.name, createSupervised(service, { daemon, owner, now, onChange: tell, closed }));
  }
  const find = (name: string): Supervised => {
    const found = supervised.get(name);
    if (found !== undefined) return found;
    throw new ServiceError('missing', `There is no Docker service ${name}.`, 'Name one of the configuration.');
  };

  async function look(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await noticing(signal, async () => {
      await daemon.ping(signal);
      await Promise.all([...supervised.values()].map((each) => each.look(signal)));
    });
  }

  /** Whether the daemon answers is noticed, and told when it changes. */
  async function noticing(signal: AbortSignal, asking: () => Promise<void>): Promise<void> {
    try {
      await asking();
      if (problem !== null) {
        problem = null;
        tell({ kind: 'driver-back' });
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof NoAnswer)) throw error;
      const before = problem;
      problem = `${error.message} ${error.remedy}`;
      for (const each of supervised.values()) each.doubtAll(error.message);
      if (before === null) tell({ kind: 'driver-away', reason: problem });
    }
  }

  /** Reads events for as long as there are any. The look comes when the stream is open: so nothing falls between. */
  async function readOneStream(begun: () => void): Promise<void> {
    const stream = await daemon.events(closed);
    await look(closed);
    begun();
    for await (const event of readEvents(stream)) heed(event);
  }

  /** Not awaited: a container that Docker says nothing of must not hold up what happens to the others. */
  function heed({ names, action, exitCode }: ContainerEvent): void {
    const told = action === 'die' && exitCode !== null ? exitWith(exitCode) : null;
    for (const each of supervised.values()) {
      if (!names.includes(each.container)) continue;
      const looking = problem === null ? noticing(closed, () => each.look(closed, told)) : look(closed);
      looking.catch(warn);
    }
  }

  async function watch(): Promise<void> {
    let waitMs = RETRY_MS.first;
    while (!closed.aborted) {
      const error: unknown = await readOneStream(() => {
        waitMs = RETRY_MS.first;
      }).catch((broken: unknown) => broken);
      await look(closed).catch(warn);
      // What the look finds is told as a problem; a stream that breaks off is the daemon's end, and it may be back by now.
      if (error !== undefined && problem === null && !isBrokenOff(error)) warn(error);
      await pause(waitMs, closed).catch(() => {}); // Only closing ends the wait early.
      waitMs = Math.min(waitMs * 2, RETRY_MS.longest);
    }
  }

  function warn(error: unknown): void {
    // Whatever it is, the next look tries again.
    if (!closed.aborted) process.emitWarning(`Watching Docker: ${(error as Error).message}`);
  }

  let looking: Promise<void> | null = null;
  const timer = setInterval(() => {
    looking ??= look(closed)
      .catch(warn)
      .finally(() => {
        looking = null;
      });
  }, LOOK_EVERY_MS);
  timer.unref();
  const watching = watch();

  return {
    id: 'docker',
    problem: () => problem,
    sights: () => [...supervised.values()].map((each) => each.sight()),
    look,
    start: async (service, { gpus, signal }) => find(service).start(gpus, signal),
    stop: async (service, { graceMs, signal }) => find(service).stop(graceMs, signal),
    logs: (service, logOptions) => find(service).logs(logOptions),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      clearInterval(timer);
      closing.abort(new Error('The driver was closed.'));
      await Promise.all([watching, looking]);
    },
  };
}

function isBrokenOff(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return (
    error instanceof NoAnswer || code === 'ECONNRESET' || code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE'
  );
}
