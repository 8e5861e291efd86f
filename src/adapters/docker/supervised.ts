/** One service: its container as it was last seen, how to begin and end a run of it. */
import type { ContainerInspectInfo } from 'dockerode';

import type { ServiceChange, ServiceExit, ServiceSight } from '../services/driver.js';
import { createQueue } from '../services/queue.js';
import { isOver } from '../timeLimit.js';
import { creationOf, gpusOf, isCurrent, isOurs } from './creation.js';
import type { Daemon } from './daemon.js';
import { givenTo } from './devices.js';
import { DockerAnswer, endedAtOnce, inDoubt, NoAnswer, noContainer, noImage, refusal, strangerOf } from './failures.js';
import { exitOf, healthOf, isRunning, runOf } from './inspection.js';
import { readLogs } from './logs.js';
import { containerName, type DockerService, isCreated } from './service.js';
import { unlessAborted, within } from './waits.js';

/** What is killed is gone within this, unless a driver holds it; Docker itself waits as long. */
const KILL_MS = 10_000;
/** For a start that nobody waits for any more: so long until it is killed. */
const ABANDONED_START_MS = 10_000;

const UNSEEN_EXIT: ServiceExit = { code: null, signal: null, reason: 'ended; how was not seen' };
const REMOVED: ServiceExit = { code: null, signal: null, reason: 'its container was removed' };

interface SupervisedOptions {
  daemon: Daemon;
  owner: string;
  /** Epoch ms. */
  now: () => number;
  onChange: (change: ServiceChange) => void;
  /** Ends what goes on in the background. */
  closed: AbortSignal;
}

export type Supervised = ReturnType<typeof createSupervised>;

export function createSupervised(service: DockerService, options: SupervisedOptions) {
  const { daemon, owner, now, onChange, closed } = options;
  const { name } = service;
  const oneLook = createQueue();
  const oneOperation = createQueue();
  const waiting = new Set<() => void>();

  let found: ContainerInspectInfo | null = null;
  let run: string | null = null;
  let pids: number[] = [];
  /** Why it is not known whether the service runs; null when it is. */
  let doubt: string | null = 'Docker was not asked yet.';
  let lastExit: ServiceExit | null = null;
  /** As an event told it; a container that Docker started again has forgotten. */
  let toldExit: ServiceExit | null = null;
  let looked = false;
  let operating = false;

  function sight(): ServiceSight {
    const running = run === null ? null : found;
    const gpus = running !== null && isCreated(service) ? gpusOf(running.HostConfig.DeviceRequests ?? []) : null;
    const health = running === null ? null : healthOf(running.State);
    return {
      service: name,
      state: doubt !== null ? 'unknown' : running === null ? 'absent' : 'running',
      run,
      pids,
      runningForMs: running === null ? null : Math.max(0, now() - Date.parse(running.State.StartedAt)),
      ...(gpus === null ? {} : { gpus }),
      ...(found === null || isCreated(service) ? {} : { given: givenTo(found) }),
      ...(health === null ? {} : { health }),
      lastExit,
    };
  }

  /** The service's container; null when there is none, or only a stranger's of that name. */
  async function locate(signal: AbortSignal): Promise<ContainerInspectInfo | null> {
    const there = await daemon.inspect(containerName(service), signal);
    return there !== null && isCreated(service) && !isOurs(there.Config.Labels, service, owner) ? null : there;
  }

  /**
   * Looks now, and tells what changed.
   * @param told how a run ended, as an event says it
   * @throws NoAnswer, unless only this one answer is late
   */
  const look = (signal: AbortSignal, told: ServiceExit | null = null): Promise<void> =>
    oneLook(async () => {
      toldExit = told ?? toldExit;
      try {
        const there = await locate(signal);
        const processes = there !== null && isRunning(there.State) ? await processesOf(there, signal) : [];
        notice(there, processes);
      } catch (error) {
        signal.throwIfAborted();
        // One container that hangs, as on a lost GPU, holds up what Docker says of it, not of the others.
        const ownDoubt = error instanceof DockerAnswer || (error instanceof NoAnswer && error.late);
        if (!ownDoubt) throw error;
        doubt = error.message;
      }
    });

  async function processesOf(there: ContainerInspectInfo, signal: AbortSignal): Promise<number[]> {
    try {
      return await daemon.pids(there.Id, signal);
    } catch (error) {
      // It has just ended, or the daemon's machine has no ps: then its first process is what is known.
      if (error instanceof DockerAnswer) return there.State.Pid > 0 ? [there.State.Pid] : [];
      throw error;
    }
  }

  function notice(there: ContainerInspectInfo | null, processes: number[]): void {
    const before = run;
    const wasInDoubt = doubt !== null;
    const current = there !== null && isRunning(there.State) ? runOf(there) : null;
    const ended = before !== null && before !== current;
    const healthBefore = sight().health;
    if (ended) lastExit = howItEnded(before, there);
    else if (current === null && there !== null) lastExit = exitOf(there.State);
    if (ended || current === null) toldExit = null;
    [found, run, pids, doubt] = [there, current, processes, null];
    if (ended && !operating) onChange({ kind: 'ended', service: name, exit: lastExit ?? UNSEEN_EXIT });
    const began = current !== null && before !== current;
    if (began && looked && !operating) onChange({ kind: 'started', service: name });
    const healthChanged = !began && current !== null && sight().health !== healthBefore;
    if (healthChanged) onChange({ kind: 'health', service: name });
    looked = true;
    if (began || wasInDoubt) for (const tell of waiting) tell();
  }

  function howItEnded(ended: string, there: ContainerInspectInfo | null): ServiceExit {
    if (there === null) return toldExit ?? REMOVED;
    const isSameRun = !isRunning(there.State) && runOf(there) === ended;
    return (isSameRun ? exitOf(there.State) : toldExit) ?? UNSEEN_EXIT;
  }

  const start = (gpus: readonly string[], signal: AbortSignal): Promise<ServiceSight> =>
    operate('start', async () => {
      signal.throwIfAborted();
      const there = await daemon.inspect(containerName(service), signal);
      if (there !== null && isCreated(service) && !isOurs(there.Config.Labels, service, owner)) {
        throw strangerOf(service);
      }
      if (there === null || !isRunning(there.State)) await begin(await startable(there, gpus, signal), signal);
      // From here on it runs, also for a caller who leaves now.
      await look(closed);
      if (doubt !== null) throw inDoubt(service, doubt);
      if (run === null) throw endedAtOnce(service, lastExit);
      return sight();
    });

  /** The id of a container that does not run and is as it should be. */
  async function startable(
    there: ContainerInspectInfo | null,
    gpus: readonly string[],
    signal: AbortSignal,
  ): Promise<string> {
    if (!isCreated(service)) {
      if (there === null) throw noContainer(service);
      return there.Id;
    }
    const creation = creationOf(service, gpus, owner);
    const image = await daemon.imageId(service.image, signal);
    if (there !== null && isCurrent(there.Config.Labels, creation) && (image === null || image === there.Image)) {
      return there.Id;
    }
    if (image === null) throw noImage(service, service.image);
    if (there !== null) await daemon.remove(there.Id, signal);
    return daemon.create(creation, signal);
  }

  /** Docker goes on with a start whose caller has left: so it is seen to its end, and then undone. */
  async function begin(id: string, signal: AbortSignal): Promise<void> {
    const givenUp = new AbortController();
    const starting = daemon.start(id, AbortSignal.any([closed, givenUp.signal]));
    try {
      await unlessAborted(starting, signal);
    } catch (error) {
      // Should what follows fail too, the next look says whether it runs after all.
      if (!(error instanceof DockerAnswer)) {
        await within(ABANDONED_START_MS, starting);
        givenUp.abort();
        await daemon.kill(id, KILL_MS, closed).catch(() => {});
      }
      await look(closed).catch(() => {});
      throw error;
    }
  }

  const stop = (graceMs: number, signal: AbortSignal): Promise<'stopped' | 'stuck'> =>
    operate('stop', async () => {
      try {
        return await askThenKill(graceMs, signal);
      } catch (error) {
        // A daemon that answers slowly can use the time up before it has heard of the stop: the container would go on for ever.
        if (isOver(signal)) await killLate();
        throw error;
      }
    });

  async function askThenKill(graceMs: number, signal: AbortSignal): Promise<'stopped' | 'stuck'> {
    const there = await locate(signal);
    if (there === null || !(await lives(there.Id, signal))) {
      await look(signal);
      return 'stopped';
    }
    if (graceMs > 0) await daemon.stop(there.Id, graceMs, signal).catch(laterOrRefused);
    if (await lives(there.Id, signal)) await daemon.kill(there.Id, KILL_MS, signal).catch(laterOrRefused);
    const result = (await lives(there.Id, signal)) ? 'stuck' : 'stopped';
    await look(signal);
    return result;
  }

  /** For nobody any more. A daemon that does not answer now either is asked again by the next stop. */
  async function killLate(): Promise<void> {
    const there = await locate(closed);
    if (there !== null) await daemon.kill(there.Id, KILL_MS, closed).catch(laterOrRefused);
    await look(closed);
  }

  /** Whether anything of it runs, or will by itself. No answer in time is no proof that it ended. */
  async function lives(id: string, signal: AbortSignal): Promise<boolean> {
    try {
      const there = await daemon.inspect(id, signal);
      return there !== null && (there.State.Running || there.State.Restarting);
    } catch (error) {
      if (error instanceof NoAnswer && error.late) return true;
      throw error;
    }
  }

  /** One after the other; what a start or a stop does itself is no news. */
  const operate = <T>(action: string, operation: () => Promise<T>): Promise<T> =>
    oneOperation(async () => {
      operating = true;
      try {
        return await operation();
      } catch (error) {
        throw refusal(service, action, error);
      } finally {
        operating = false;
      }
    });

  return {
    container: containerName(service),
    sight,
    look,
    start,
    stop,
    logs: (logOptions: { tail: number; follow: boolean; signal: AbortSignal }) =>
      readLogs({ service, daemon, locate, news }, logOptions),
    /** Nobody can be asked: what was seen last may be true no more. */
    doubtAll(reason: string): void {
      doubt = reason;
    },
  };

  /** Resolves at the next run, when the daemon answers again, and on abort. */
  function news(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const tell = (): void => {
        waiting.delete(tell);
        signal.removeEventListener('abort', tell);
        resolve();
      };
      waiting.add(tell);
      signal.addEventListener('abort', tell, { once: true });
      if (signal.aborted) tell();
    });
  }
}

/** What is too late or refused leaves the last word to the look that follows. */
function laterOrRefused(error: unknown): void {
  if (!(error instanceof DockerAnswer) && !(error instanceof NoAnswer && error.late)) throw error;
}
