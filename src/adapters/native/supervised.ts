/** One service: which run of it lives, what is left of earlier ones, how to begin and end one. */
import type { ChildProcess } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { cudaEnvironment } from '../../contracts/names.js';
import { ageMs, type ProcessSight, stillLives } from '../../processes/proc.js';
import { endTarget } from '../processes/ending.js';
import { cleanEnvironment } from '../processes/environment.js';
import { createRecordStore } from '../processes/records.js';
import { newMarker, spawnOwned } from '../processes/spawn.js';
import { readTable, type TableEntry } from '../processes/tree.js';
import type { ServiceChange, ServiceExit, ServiceSight } from '../services/driver.js';
import { createQueue } from '../services/queue.js';
import { isOver } from '../timeLimit.js';
import { enterCgroup, makeCgroup, removeCgroup } from './cgroup.js';
import { exitOf, UNSEEN_EXIT } from './exits.js';
import { endedAtOnce, inDoubt, leftOver, startError } from './failures.js';
import { createLogFile, type LogFile, type LogLimits } from './logFile.js';
import { createMatchedRun, findMatching } from './matchedRun.js';
import { createOwnedRun, nativeDetails } from './ownedRun.js';
import { checkStart } from './preflight.js';
import type { NativeRun, RunSight } from './run.js';
import { keyOf, type NativeService } from './service.js';

/** From SIGTERM to SIGKILL for what is left of a run that ended: nobody waits for its answers. */
const LEFTOVER_TERM_MS = 2_000;
/** Also when it was late to be asked, so that one that ends well can. */
const LEAST_GRACE_MS = 1_000;
/** The exit of a child is told by the system at once; by Node a moment after /proc shows it. */
const EXIT_TOLD_MS = 500;

interface SupervisedOptions {
  /** Of this service alone: records, and the log. */
  folder: string;
  logLimits: LogLimits;
  /** Pids of other services' runs: never matched. */
  taken: () => ReadonlySet<number>;
  onChange: (change: ServiceChange) => void;
  /** Ends what goes on in the background. */
  closed: AbortSignal;
}

export type Supervised = ReturnType<typeof createSupervised>;

export function createSupervised(service: NativeService, options: SupervisedOptions) {
  const { name } = service;
  const { folder, onChange, closed } = options;
  const store = createRecordStore(folder, nativeDetails);
  const log: LogFile = createLogFile(join(folder, 'output.log'), options.logLimits);
  const oneLook = createQueue();
  const oneOperation = createQueue();
  const handles = new Map<string, ChildProcess>();
  const reaping = new Set<string>();

  let run: NativeRun | null = null;
  let seen: RunSight = { state: 'unknown', members: [] };
  let leftovers: { run: NativeRun; members: ProcessSight[] }[] = [];
  /** Why it is not known whether the service runs; null when it is. */
  let doubt: string | null = 'it was not looked at yet';
  let lastExit: ServiceExit | null = null;
  let looked = false;
  let operating = false;

  function sight(): ServiceSight {
    const pids = [...seen.members, ...leftovers.flatMap(({ members }) => members)].map(({ pid }) => pid);
    const state = doubt !== null ? 'unknown' : run === null ? 'absent' : 'running';
    return {
      service: name,
      state,
      run: run?.id ?? null,
      pids: [...new Set(pids)],
      runningForMs: run?.leader == null ? null : ageMs(run.leader.startTicks),
      ...(run?.gpus == null ? {} : { gpus: run.gpus }),
      lastExit,
    };
  }

  /** Looks now. What ended is reaped, what was begun by others is adopted, and both are told. */
  const look = (table?: readonly TableEntry[]): Promise<void> => oneLook(() => lookNow(table ?? null));

  /** All that fails is tried again at the next look. */
  async function lookInBackground(): Promise<void> {
    if (closed.aborted) return;
    await look().catch((error: unknown) => process.emitWarning(`Looking at ${name}: ${(error as Error).message}`));
  }

  async function lookNow(given: readonly TableEntry[] | null): Promise<void> {
    const before = run;
    const owned = await lookAtOwned(given);
    const matched = owned.current === null ? await findMatched(given) : null;
    const current = owned.current ?? matched?.current ?? null;
    const ended = before !== null && before.id !== current?.run.id;
    if (ended) lastExit = await howItEnded(before);
    doubt = current?.sight.state === 'unknown' ? `process ${current.run.leader?.pid} cannot be proven to be it` : null;
    doubt ??= matched?.doubt ?? null;
    leftovers = owned.leftovers;
    run = current?.run ?? null;
    seen = current?.sight ?? { state: 'ended', members: [] };
    if (!operating) {
      if (ended) onChange({ kind: 'ended', service: name, exit: lastExit ?? UNSEEN_EXIT });
      if (run !== null && before?.id !== run.id && looked) onChange({ kind: 'started', service: name });
      for (const left of leftovers) void reap(left.run);
    }
    looked = true;
  }

  async function lookAtOwned(table: readonly TableEntry[] | null) {
    const found: { run: NativeRun; sight: RunSight }[] = [];
    for (const record of await store.list()) {
      const known = [run, ...leftovers.map((left) => left.run)].find((each) => each?.id === record.marker);
      const owned = known ?? createOwnedRun(record, store);
      const ownedSight = await owned.look(table);
      if (ownedSight.state !== 'ended' || ownedSight.members.length > 0) found.push({ run: owned, sight: ownedSight });
      else {
        if (owned.id !== run?.id && owned.leader !== null) lastExit ??= UNSEEN_EXIT;
        await owned.forget();
      }
    }
    // At most one of a service runs. Should there be two all the same, the elder is the service.
    const living = found.filter((each) => each.sight.state !== 'ended').sort(byStart);
    const current = living[0] ?? null;
    const rest = found.filter((each) => each !== current);
    return { current, leftovers: rest.map((each) => ({ run: each.run, members: each.sight.members })) };
  }

  async function findMatched(given: readonly TableEntry[] | null) {
    if (service.match === undefined) return null;
    const table = given ?? (await readTable());
    if (run !== null && (await lives(run))) return { current: { run, sight: await run.look(table) }, doubt: null };
    const ours = leftovers.flatMap(({ members }) => members.map(({ pid }) => pid));
    const found = await findMatching(service.match, table, new Set([...options.taken(), ...ours]));
    const [first] = found;
    if (first === undefined) return null;
    if (found.length > 1) {
      const pids = found.map(({ pid }) => pid).join(' and ');
      return { current: null, doubt: `processes ${pids} both match ${keyOf(name, 'match')}` };
    }
    const matched = await createMatchedRun(first);
    return { current: { run: matched, sight: await matched.look(table) }, doubt: null };
  }

  async function howItEnded(ended: NativeRun): Promise<ServiceExit> {
    const handle = handles.get(ended.id);
    handles.delete(ended.id);
    if (handle === undefined) return UNSEEN_EXIT;
    return Promise.race([exitOf(handle), delay(EXIT_TOLD_MS, UNSEEN_EXIT)]);
  }

  /** A run without its first process is no service any more; what is left of it would only hold memory. */
  async function reap(left: NativeRun): Promise<void> {
    if (reaping.has(left.id)) return;
    reaping.add(left.id);
    try {
      await endRun(left, LEFTOVER_TERM_MS, closed);
      await look();
    } catch (error) {
      // Closing ends the wait, and a successor finds what is left. All else is tried again at the next look.
      if (!closed.aborted)
        process.emitWarning(`What is left of ${name} could not be ended: ${(error as Error).message}`);
    } finally {
      reaping.delete(left.id);
    }
  }

  async function endRun(ending: NativeRun, graceMs: number, signal: AbortSignal): Promise<'stopped' | 'stuck'> {
    const result = await endTarget(ending.target, { ask: null, graceMs: 0, termMs: graceMs, signal });
    return result === 'ended' ? 'stopped' : 'stuck';
  }

  const start = (gpus: string[], signal: AbortSignal): Promise<ServiceSight> =>
    operate(async () => {
      signal.throwIfAborted();
      if (doubt !== null) throw inDoubt(name, doubt);
      if (run !== null) return sight();
      for (const left of leftovers) {
        if ((await endRun(left.run, LEFTOVER_TERM_MS, signal)) === 'stuck') throw leftOver(name, left.members);
      }
      const env = { ...cleanEnvironment(), ...service.env, ...cudaEnvironment(gpus) };
      await checkStart(service, env);
      signal.throwIfAborted();
      // Within one look's turn: no look may see the record before the run is known here.
      await oneLook(() => spawn(gpus, env));
      if (signal.aborted && run !== null) await endRun(run, 0, closed);
      if (seen.state === 'running' && !signal.aborted) return sight();
      await look();
      signal.throwIfAborted();
      if (run !== null) return sight();
      throw endedAtOnce(name, lastExit, log.path);
    });

  async function spawn(gpus: string[], env: NodeJS.ProcessEnv): Promise<void> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await log.beginRun();
    const marker = newMarker();
    const cgroup = await makeCgroup(marker);
    const { cwd, argv } = service;
    const started = await spawnOwned(store, {
      marker,
      command: argv,
      env,
      log: log.path,
      details: { gpus, cgroup },
      ...(cwd === undefined ? {} : { cwd }),
    }).catch(async (error: unknown) => {
      await removeCgroup(cgroup, marker);
      throw startError(name, error);
    });
    const { pid } = started.handle;
    if (cgroup !== null && pid !== undefined) await enterCgroup(cgroup, pid);
    handles.set(marker, started.handle);
    void exitOf(started.handle).then(lookInBackground);
    run = createOwnedRun(started.record, store, started.handle);
    seen = await run.look(null);
  }

  /** The grace counts from here, however long what comes before it in the line takes. */
  const stop = (graceMs: number, signal: AbortSignal): Promise<'stopped' | 'stuck'> => {
    const killAt = performance.now() + graceMs;
    const leftMs = () => Math.max(killAt - performance.now(), Math.min(graceMs, LEAST_GRACE_MS));
    return operate(async () => {
      // One whose time is over is ended all the same.
      if (!isOver(signal)) signal.throwIfAborted();
      if (run === null && doubt !== null) return 'stuck';
      const living = [...(run === null ? [] : [run]), ...leftovers.map((left) => left.run)];
      const results = await Promise.all(living.map((each) => endRun(each, leftMs(), signal)));
      await look();
      return results.includes('stuck') ? 'stuck' : 'stopped';
    });
  };

  /** One after the other, each after a look; what a start or a stop does itself is no news. */
  const operate = <T>(operation: () => Promise<T>): Promise<T> =>
    oneOperation(async () => {
      await look();
      operating = true;
      try {
        return await operation();
      } finally {
        operating = false;
      }
    });

  return {
    sight,
    look,
    start,
    stop,
    log,
    /** Cheap: whether the run ended since the last look. */
    hasEnded: async () => run !== null && !(await lives(run)),
  };
}

const byStart = (one: { run: NativeRun }, other: { run: NativeRun }): number =>
  (one.run.leader?.startTicks ?? 0) - (other.run.leader?.startTicks ?? 0);

const lives = async ({ leader }: NativeRun): Promise<boolean> => leader !== null && (await stillLives(leader));
