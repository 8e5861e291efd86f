/** Who listens on a TCP port of this machine, by Linux's /proc. */
import { readdir, readFile, readlink } from 'node:fs/promises';

import { readArgv } from '../../processes/proc.js';

/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';

export interface Listener {
  /** Null when it belongs to a process that is not ours to look at. */
  pid: number | null;
  command: string | null;
}

/** All that listen on a port, on whichever address; empty when it is free, or where there is no /proc. */
export async function listenersOn(port: number): Promise<Listener[]> {
  const inodes = new Set((await Promise.all(['tcp', 'tcp6'].map((file) => inodesOn(file, port)))).flat());
  if (inodes.size === 0) return [];
  const pids = await ownersOf(inodes);
  if (pids.length === 0) return [{ pid: null, command: null }];
  return Promise.all(pids.map(async (pid) => ({ pid, command: (await readArgv(pid))?.join(' ') ?? null })));
}

async function inodesOn(file: string, port: number): Promise<string[]> {
  const lines = (await readFile(`/proc/net/${file}`, 'utf8').catch(ifGone(''))).split('\n').slice(1);
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) === true && fields[3] === LISTEN)
    .map((fields) => fields[9] ?? '');
}

async function ownersOf(inodes: ReadonlySet<string>): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const owners = await Promise.all(pids.map(async (pid) => ((await holdsSocket(pid, inodes)) ? pid : null)));
  return owners.filter((pid) => pid !== null);
}

async function holdsSocket(pid: number, inodes: ReadonlySet<string>): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  for (const name of await readdir(folder).catch(ifGone<string[]>([]))) {
    const link = await readlink(`${folder}/${name}`).catch(ifGone(''));
    const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
    if (inode !== undefined && inodes.has(inode)) return true;
  }
  return false;
}

/** What ended meanwhile, or is not ours to look at, shows nothing. */
function ifGone<T>(value: T): (error: NodeJS.ErrnoException) => T {
  return (error) => {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(error.code ?? '')) return value;
    throw error;
  };
}
