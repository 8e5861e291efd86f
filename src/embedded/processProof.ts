/**
 * Law 5 for the processes that vramflow itself is made of: a process is ours when boot id, pid, start time and the
 * marker in its environment are those that we wrote down. What cannot be proven is never signalled.
 */
import { setTimeout as delay } from 'node:timers/promises';

import { z } from 'zod';

import * as proc from '../processes/proc.js';
import { EmbeddedServerError } from './errors.js';

export { OWNER_VARIABLE } from '../processes/proc.js';

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
  const [bootId, stat, carried] = await Promise.all([proc.readBootId(), lookAtLive(pid), markerOf(pid)]);
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
    if ((await lookAtLive(pid)) === null) return null;
    await delay(10);
  }
  return null;
}

/** Whether the process of this identity lives still. */
export async function lives(identity: Identity): Promise<boolean> {
  const [bootId, stat] = await Promise.all([proc.readBootId(), lookAtLive(identity.pid)]);
  if (bootId !== identity.bootId || stat?.startTicks !== identity.startTicks) return false;
  const now = await identifyStarted(identity.pid, identity.marker);
  return now?.startTicks === identity.startTicks;
}

/** Leaders of a process group that carry this marker: started by us, though no record says so. */
export async function findByMarker(marker: string): Promise<Identity[]> {
  let found: proc.ProcessSight[];
  try {
    found = await proc.findByMarker(marker);
  } catch {
    // No /proc: nothing can be found this way.
    return [];
  }
  const leaders = found.filter(({ pid, group }) => pid === group);
  const identities = await Promise.all(leaders.map(({ pid }) => identify(pid, marker)));
  return identities.filter((identity) => identity !== null);
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

/** Null when it has ended (a zombie has, too) or cannot be looked at: either way nothing is proven. */
async function lookAtLive(pid: number): Promise<proc.ProcessSight | null> {
  const sight = await proc.lookAt(pid);
  return typeof sight === 'string' || sight.ended ? null : sight;
}

async function markerOf(pid: number): Promise<string | null> {
  const found = await proc.readMarker(pid);
  return typeof found === 'string' ? null : found.marker;
}
