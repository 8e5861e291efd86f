/**
 * A lock between processes that the kernel gives back when its holder dies, so it never goes stale:
 * a listening socket in Linux's abstract namespace (a named pipe on Windows). Waiters hang on a connection to the
 * holder and wake when it closes. Where there is only a socket file, one that nobody answers on is removed.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { EmbeddedServerError } from './errors.js';

export interface Lock {
  release(): Promise<void>;
}

/** Takes the lock of this name at once, or answers null. The name is usually a path: it need not exist. */
export async function tryLock(name: string): Promise<Lock | null> {
  const address = addressOf(name);
  const waiters = new Set<Socket>();
  const server = createServer((socket) => {
    waiters.add(socket);
    // A waiter that dies resets its connection; that is no matter of ours.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => waiters.delete(socket));
  });
  if (!(await listens(server, address))) {
    if (!isFile(address) || (await someoneAnswers(address))) return null;
    await rm(address, { force: true });
    if (!(await listens(server, address))) return null;
  }
  server.unref();
  return {
    async release() {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      for (const socket of waiters) socket.destroy();
      await closed;
    },
  };
}

/**
 * Runs `work` under the lock.
 * @param options.timeoutMs bound of the wait for another holder
 * @param options.onWait called once when there is one
 * @throws EmbeddedServerError `locked` after the bound; the signal's reason when aborted
 */
export async function withLock<T>(
  name: string,
  options: { timeoutMs: number; onWait?: () => void; signal?: AbortSignal | undefined },
  work: () => Promise<T>,
): Promise<T> {
  const lock = await waitForLock(name, options);
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

async function waitForLock(
  name: string,
  options: { timeoutMs: number; onWait?: () => void; signal?: AbortSignal | undefined },
): Promise<Lock> {
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const signals = options.signal === undefined ? [deadline] : [deadline, options.signal];
  const bound = AbortSignal.any(signals);
  let told = false;
  for (;;) {
    const lock = await tryLock(name);
    if (lock !== null) return lock;
    if (!told) options.onWait?.();
    told = true;
    options.signal?.throwIfAborted();
    if (deadline.aborted) {
      throw new EmbeddedServerError(
        'locked',
        `Another vramflow process has held the lock of ${name} for more than ${options.timeoutMs} ms.`,
        'Wait for it to end, or end it, then try again.',
      );
    }
    await holderGone(addressOf(name), bound);
  }
}

/** Resolves when the holder closes, was never there, or the signal fires. */
async function holderGone(address: string, signal: AbortSignal): Promise<void> {
  const socket = connect(address);
  const end = () => socket.destroy();
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  await new Promise<void>((done) => {
    // An error (refused, reset) means that the holder is gone; `close` follows.
    socket.on('error', end);
    socket.on('close', () => done());
  });
  signal.removeEventListener('abort', end);
}

async function listens(server: Server, address: string): Promise<boolean> {
  server.listen(address);
  try {
    await once(server, 'listening');
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return false;
    throw error;
  }
}

async function someoneAnswers(address: string): Promise<boolean> {
  const socket = connect(address);
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    // Nobody listens: the file is what a dead holder left.
    return false;
  } finally {
    socket.destroy();
  }
}

/** Where the lock of a name listens. */
export function addressOf(name: string): string {
  const key = createHash('sha256').update(resolve(name)).digest('hex').slice(0, 32);
  if (process.platform === 'linux') return `\0vramflow-${key}`;
  if (process.platform === 'win32') return `\\\\.\\pipe\\vramflow-${key}`;
  return join(tmpdir(), `vramflow-${key}.lock`);
}

const isFile = (address: string) => address.startsWith('/');
