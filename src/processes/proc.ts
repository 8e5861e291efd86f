/** Reads Linux's /proc. Each function answers null where that is impossible: no such process, no right, no /proc. */
import { readFileSync } from 'node:fs';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { uptime } from 'node:os';
import { basename } from 'node:path';

/** The environment variable that marks a process as started by vramflow; its value is unique to the start. */
export const OWNER_VARIABLE = 'VRAMFLOW_OWNER';

/** Linux reports start times in 1/100 s on every architecture that Node supports (USER_HZ). */
const TICK_MS = 10;

/** What the kernel keeps of a name (TASK_COMM_LEN − 1). */
const COMM_LENGTH = 15;

/** Field numbers of /proc/<pid>/stat (proc(5)), counted from the field after the command's name. */
const FIELD = { state: 0, parent: 1, group: 2, session: 3, startTicks: 19 } as const;

export interface ProcessSight {
  pid: number;
  /** Ended but not yet reaped: holds no memory any more. */
  ended: boolean;
  /** 1, or a subreaper, once the parent has ended. */
  parent: number;
  /** The process group, which a signal can go to as a whole. */
  group: number;
  /** Its number belongs to no other process while a member lives. */
  session: number;
  /** Since the boot, in ticks of 10 ms; with the pid and the boot id it names a process for ever. */
  startTicks: number;
}

/** `gone`: no such process. `unknown`: it cannot be looked at. */
export type Sight = ProcessSight | 'gone' | 'unknown';

/** The id of this boot of the machine, or null where /proc is missing. */
export async function readBootId(): Promise<string | null> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch {
    // No Linux: the absence is the answer.
    return null;
  }
}

/** Whether a process has that id, also one that is not ours to signal, and one that ended and is not reaped yet. */
export function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Forbidden, by AppArmor for one (EACCES), is not gone.
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

export async function lookAt(pid: number): Promise<Sight> {
  const stat = await readProc(pid, 'stat');
  if (stat === 'gone' || stat === 'unknown') return stat;
  // The command's name stands in brackets and may itself hold blanks and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[FIELD.state] ?? '';
  const [parent, group, session, startTicks] = (['parent', 'group', 'session', 'startTicks'] as const).map((field) =>
    Number(fields[FIELD[field]]),
  ) as [number, number, number, number];
  if (![parent, group, session, startTicks].every(Number.isInteger)) return 'unknown';
  return { pid, ended: state === 'Z' || state === 'X', parent, group, session, startTicks };
}

/**
 * The name of its parent; null where that cannot be seen, and where the process with that id has another name: then it is
 * not the one that is meant, whose id is of another namespace. Of all names the kernel keeps 15 characters. Reads nothing
 * that waits for the process.
 * @param name of the process, with or without its folder
 */
export function parentName(pid: number, name: string): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [opened, closed] = [stat.indexOf('('), stat.lastIndexOf(')')];
    if (stat.slice(opened + 1, closed) !== basename(name).slice(0, COMM_LENGTH)) return null;
    const parent = stat.slice(closed + 2).split(' ')[FIELD.parent] ?? '';
    return readFileSync(`/proc/${parent}/comm`, 'utf8').trim();
  } catch {
    // It has ended, or there is no /proc: the absence is the answer.
    return null;
  }
}

/**
 * The ownership marker in the environment that the process was started with; null when it has none.
 * `exiting`: its memory is released already, and with it the environment, but not yet its devices.
 */
export async function readMarker(pid: number): Promise<{ marker: string | null } | 'exiting' | 'gone' | 'unknown'> {
  const environment = await readProc(pid, 'environ');
  if (environment === 'gone' || environment === 'unknown') return environment;
  if (environment === '') return 'exiting';
  const prefix = `${OWNER_VARIABLE}=`;
  const entry = environment.split('\0').find((line) => line.startsWith(prefix));
  return { marker: entry === undefined ? null : entry.slice(prefix.length) };
}

/** The command line that the process shows, which it can change; null when it has ended or shows none. */
export async function readArgv(pid: number): Promise<string[] | null> {
  const text = await readProc(pid, 'cmdline');
  return text === 'gone' || text === 'unknown' || text === '' ? null : text.replace(/\0$/, '').split('\0');
}

/** The file that the process runs, which the kernel says; null when it has ended or is not ours to look at. */
export async function readExecutable(pid: number): Promise<string | null> {
  try {
    return await readlink(`/proc/${pid}/exe`);
  } catch {
    // Gone, a kernel thread, or another user's.
    return null;
  }
}

/** Whether this very process lives: another one under its pid has another start time. */
export async function stillLives({ pid, startTicks }: Pick<ProcessSight, 'pid' | 'startTicks'>): Promise<boolean> {
  const sight = await lookAt(pid);
  return typeof sight !== 'string' && !sight.ended && sight.startTicks === startTicks;
}

/** Every live process that carries this marker: the one started with it and its descendants. */
export async function findByMarker(marker: string): Promise<ProcessSight[]> {
  return findProcesses(async (sight) => {
    const found = await readMarker(sight.pid);
    return typeof found !== 'string' && found.marker === marker;
  });
}

/** Every live process that `matches`. */
export async function findProcesses(matches: (sight: ProcessSight) => Promise<boolean>): Promise<ProcessSight[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const sights = await Promise.all(
    pids.map(async (pid) => {
      const sight = await lookAt(pid);
      return typeof sight !== 'string' && !sight.ended && (await matches(sight)) ? sight : null;
    }),
  );
  return sights.filter((sight) => sight !== null);
}

/** Milliseconds since a process with this start time began. */
export function ageMs(startTicks: number): number {
  return Math.max(0, Math.round(uptime() * 1000) - startTicks * TICK_MS);
}

async function readProc(pid: number, file: 'stat' | 'environ' | 'cmdline'): Promise<string> {
  const path = `/proc/${pid}/${file}`;
  try {
    // Only the state is read without the process's memory: at once, and by no thread that could be held.
    return file === 'stat' ? readFileSync(path, 'utf8') : await readUnlessItHangs(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // ESRCH: it ended between opening and reading.
    return code === 'ENOENT' || code === 'ESRCH' ? 'gone' : 'unknown';
  }
}

/** Of Node's four threads so many may read what can hang; the others stay for all else. */
const MOST_READS = 2;
/** In ticks of 1 s, so that a busy machine has had its turn between them. */
const PATIENCE_TICKS = 3;
/** Under way, by path. */
const reads = new Map<string, Promise<string>>();
/** Those of them that did not come back in time. */
const hanging = new Set<string>();
const waiting: (() => void)[] = [];
let underWay = 0;

/**
 * The memory of a process that hangs in the kernel, in a GPU's driver say, can be locked: whoever reads it waits as long.
 * @returns `unknown` after 3 s, and at once for as long as that read, or two others, have not come back
 */
export function readUnlessItHangs(path: string): Promise<string> {
  if (hanging.has(path)) return Promise.resolve('unknown');
  const read = reads.get(path) ?? readInTurn(path).finally(() => reads.delete(path));
  reads.set(path, read);
  return read;
}

/** A turn comes when another read has ended, and when nobody can wait for that any more. */
const mustWait = (): boolean => underWay >= MOST_READS && hanging.size < MOST_READS;

async function readInTurn(path: string): Promise<string> {
  while (mustWait()) {
    await new Promise<void>((resolve) => waiting.push(resolve));
  }
  if (hanging.size >= MOST_READS) return 'unknown';
  underWay += 1;
  let timer: NodeJS.Timeout | undefined;
  const reading = readFile(path, 'utf8').finally(() => {
    clearInterval(timer);
    hanging.delete(path);
    underWay -= 1;
    waiting.shift()?.();
  });
  const late = new Promise<'unknown'>((resolve) => {
    let ticks = 0;
    timer = setInterval(() => {
      ticks += 1;
      if (ticks < PATIENCE_TICKS) return;
      clearInterval(timer);
      hanging.add(path);
      for (const wake of waiting.splice(0)) wake();
      resolve('unknown');
    }, 1_000);
  });
  return Promise.race([reading, late]);
}
