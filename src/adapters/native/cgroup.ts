/**
 * A cgroup (version 2) of its own for each run, where this user may make one: the kernel keeps the list of its
 * processes, whatever they do to their sessions and environments, and ends all of them at once. No systemd is needed.
 */
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Makes a cgroup beneath the agent's own and names it by the marker of the run.
 * @returns its folder, or null where there is no version 2 or no right to it
 */
export async function makeCgroup(marker: string): Promise<string | null> {
  const own = await ownFolder();
  if (own === null) return null;
  const folder = join(own, marker);
  try {
    await mkdir(folder);
    return folder;
  } catch {
    // No right to it, as in most sessions without delegation: the marker finds the processes, too.
    return null;
  }
}

/** Moves a process, and what it forks from then on. @returns whether the kernel took it */
export async function enterCgroup(folder: string, pid: number): Promise<boolean> {
  try {
    await writeFile(join(folder, 'cgroup.procs'), String(pid));
    return true;
  } catch {
    // No right to move it, or it has ended.
    return false;
  }
}

/** The live processes in it; none when it is gone, or when it is not the cgroup of this marker. */
export async function listCgroup(folder: string | null, marker: string): Promise<number[]> {
  if (!isOf(folder, marker)) return [];
  try {
    return (await readFile(join(folder, 'cgroup.procs'), 'utf8')).split('\n').filter(Boolean).map(Number);
  } catch (error) {
    if (isGone(error)) return [];
    throw error;
  }
}

/** SIGKILL for all of it, forks under way included. Does nothing before Linux 5.14, which has no such file. */
export async function killCgroup(folder: string | null, marker: string): Promise<void> {
  if (!isOf(folder, marker)) return;
  try {
    await writeFile(join(folder, 'cgroup.kill'), '1', { flag: 'r+' });
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** What has ended is in it until it is reaped: the cgroup cannot be removed before. */
const REAPED_LOOKS = 10;
const REAPED_EVERY_MS = 20;

/** Nothing happens to one that is gone. One that is in use for longer than 200 ms stays; empty, it costs nothing. */
export async function removeCgroup(folder: string | null, marker: string): Promise<void> {
  if (!isOf(folder, marker)) return;
  for (let look = 0; look < REAPED_LOOKS; look++) {
    try {
      await rmdir(folder);
      return;
    } catch (error) {
      if (isGone(error)) return;
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error;
      await delay(REAPED_EVERY_MS);
    }
  }
}

/** A path on disk proves nothing by itself; a cgroup with the name of the marker was made for it. */
function isOf(folder: string | null, marker: string): folder is string {
  return folder !== null && basename(folder) === marker;
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENODEV';
}

async function ownFolder(): Promise<string | null> {
  try {
    const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' '));
    const mount = mounts.find(([, , type]) => type === 'cgroup2')?.[1];
    const own = /^0::(.*)$/m.exec(await readFile('/proc/self/cgroup', 'utf8'))?.[1];
    return mount === undefined || own === undefined ? null : join(mount, own);
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
}
