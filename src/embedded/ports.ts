/** Whether a port is free, and whose it is when it is not. */
import { once } from 'node:events';
import { readdir, readFile, readlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';

import { EmbeddedServerError } from './errors.js';

const LOOPBACK = '127.0.0.1';
/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';

export interface Listener {
  pid: number;
  command: string;
}

/**
 * @throws EmbeddedServerError `port-in-use` that names the port, its holder where that can be seen, and the setting
 */
export async function requireFreePort(port: number, setting: string): Promise<void> {
  const code = await bindError(port);
  if (code === null) return;
  if (code === 'EACCES') {
    throw new EmbeddedServerError(
      'port-in-use',
      `Port ${port} may not be opened by this user.`,
      `Take a port from 1024 on: ${setting}`,
    );
  }
  const holder = await whoListens(port);
  const by = holder === null ? 'another program' : `process ${holder.pid} (${holder.command})`;
  throw new EmbeddedServerError(
    'port-in-use',
    `Port ${port} on ${LOOPBACK} is in use by ${by}.`,
    `Take another port: ${setting}`,
  );
}

/** Whether something accepts a connection there within a second. */
export async function accepts(port: number, host = LOOPBACK): Promise<boolean> {
  const socket = connect({ port, host, timeout: 1_000 });
  socket.on('timeout', () => socket.destroy(new Error('timeout')));
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    // Refused or silent: nobody is there yet.
    return false;
  } finally {
    socket.destroy();
  }
}

/** The process that listens on a TCP port; null where that cannot be seen (no /proc, another user's process). */
export async function whoListens(port: number): Promise<Listener | null> {
  const inodes = new Set([...(await listeningInodes('tcp', port)), ...(await listeningInodes('tcp6', port))]);
  if (inodes.size === 0) return null;
  const names = await readdir('/proc');
  for (const pid of names.filter((name) => /^\d+$/.test(name))) {
    if (!(await holdsSocket(pid, inodes))) continue;
    const command = await read(`/proc/${pid}/cmdline`);
    return { pid: Number(pid), command: command.split('\0').join(' ').trim().slice(0, 80) };
  }
  return null;
}

async function listeningInodes(table: 'tcp' | 'tcp6', port: number): Promise<string[]> {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  const lines = (await read(`/proc/net/${table}`)).split('\n').slice(1);
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === LISTEN && fields[1]?.endsWith(`:${wanted}`) === true)
    .map((fields) => fields[9] ?? '');
}

async function holdsSocket(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  try {
    const descriptors = await readdir(`/proc/${pid}/fd`);
    const targets = await Promise.all(
      descriptors.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => 'closed meanwhile')),
    );
    return targets.some((target) => inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? ''));
  } catch {
    // Gone, or another user's.
    return false;
  }
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    // Gone, or no /proc: nothing is known.
    return '';
  }
}

async function bindError(port: number): Promise<string | null> {
  const server = createServer();
  server.listen(port, LOOPBACK);
  try {
    await once(server, 'listening');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'EADDRINUSE';
  }
  server.close();
  await once(server, 'close');
  return null;
}
