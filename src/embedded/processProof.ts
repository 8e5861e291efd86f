/**
 * Law 5 for the processes that vramflow itself is made of: a process is ours when boot id, pid, start time and the
 * marker in its environment are those that we wrote down. What cannot be proven is never signalled.
 */
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';

import { EmbeddedServerError } from './errors.js';

/** Carries the marker. A process that we start has its own value, so it never passes for its parent. */
export const OWNER_VARIABLE = 'VRAMFLOW_OWNER';

export const identitySchema = z.object({
  bootId: z.string(),
  pid: z.int().positive(),
  /** Field 22 of /proc/<pid>/stat: ticks since the boot. */
  startTicks: z.int().nonnegative(),
  marker: z.string().min(1),
});

export type Identity = z.infer<typeof identitySchema>;

const POLL_MS = 50;

/** The identity of a live process that carries this marker, or null (gone, not readable, another marker). */
export async function identify(pid: number, marker: string): Promise<Identity | null> {
  const [bootId, stat, carried] = await Promise.all([readBootId(), readStat(pid), readMarker(pid)]);
  if (bootId === null || stat === null || carried !== marker) return null;
  return { bootId, pid, startTicks: stat.startTicks, marker };
}

/**
 * As `identify`, for a process that was just started: while it replaces its program (a shell's `exec`), its
 * environment reads as empty for a moment. Waits for at most a second.
 */
export async function identifyStarted(pid: number, marker: string): Promise<Identity | null> {
  for (let look = 0; look < 100; look++) {
    const identity = await identify(pid, marker);
    if (identity !== null) return identity;
    if ((await readStat(pid)) === null) return null;
    await delay(10);
  }
  return null;
}

/** Whether the process of this identity lives still. */
export async function lives(identity: Identity): Promise<boolean> {
  const [bootId, stat] = await Promise.all([readBootId(), readStat(identity.pid)]);
  if (bootId !== identity.bootId || stat?.startTicks !== identity.startTicks) return false;
  const now = await identifyStarted(identity.pid, identity.marker);
  return now?.startTicks === identity.startTicks;
}

/** Leaders of a process group that carry this marker: started by us, though no record says so. */
export async function findByMarker(marker: string): Promise<Identity[]> {
  let names: string[];
  try {
    names = await readdir('/proc');
  } catch {
    // No /proc: nothing can be found this way.
    return [];
  }
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const leaders = await Promise.all(
    pids.map(async (pid) => ((await readStat(pid))?.group === pid ? identify(pid, marker) : null)),
  );
  return leaders.filter((leader) => leader !== null);
}

/**
 * Ends a process group by its leader's proof: SIGTERM, a wait, SIGKILL, a wait.
 * @returns whether it had to be killed; false too when it was gone already
 * @throws EmbeddedServerError `unproven` when it outlives SIGKILL by 5 s
 */
export async function endProcess(identity: Identity, graceMs: number): Promise<{ killed: boolean }> {
  if (await endsBy(identity, 'SIGTERM', graceMs)) return { killed: false };
  if (await endsBy(identity, 'SIGKILL', 5_000)) return { killed: true };
  throw new EmbeddedServerError(
    'unproven',
    `Process ${identity.pid} did not end, even after SIGKILL.`,
    `Look at it with: ps -o pid,stat,wchan,cmd -p ${identity.pid}`,
  );
}

async function endsBy(identity: Identity, signal: 'SIGTERM' | 'SIGKILL', waitMs: number): Promise<boolean> {
  if (!(await lives(identity))) return true;
  signalGroup(identity.pid, signal);
  const until = Date.now() + waitMs;
  while (Date.now() < until) {
    if (!(await lives(identity))) return true;
    await delay(POLL_MS);
  }
  return !(await lives(identity));
}

function signalGroup(pid: number, signal: 'SIGTERM' | 'SIGKILL'): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    // It ended between the look and the signal.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function readBootId(): Promise<string | null> {
  return (await readProc('/proc/sys/kernel/random/boot_id'))?.trim() ?? null;
}

/** Null when it has ended (a zombie has, too) or cannot be read. */
async function readStat(pid: number): Promise<{ group: number; startTicks: number } | null> {
  const text = await readProc(`/proc/${pid}/stat`);
  if (text === null) return null;
  // The name stands in brackets and may hold blanks and brackets; fields are counted from the state on.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  if (fields[0] === 'Z' || fields[0] === 'X') return null;
  return { group: Number(fields[2]), startTicks: Number(fields[19]) };
}

async function readMarker(pid: number): Promise<string | null> {
  const prefix = `${OWNER_VARIABLE}=`;
  const entry = (await readProc(`/proc/${pid}/environ`))?.split('\0').find((line) => line.startsWith(prefix));
  return entry?.slice(prefix.length) ?? null;
}

async function readProc(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    // Gone or not ours to read: either way nothing is proven.
    return null;
  }
}
