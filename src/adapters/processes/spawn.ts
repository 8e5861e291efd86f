/** Starts a process that outlives its manager (law 6), so that no crash between two lines can lose it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { lookAt, OWNER_VARIABLE, readBootId } from '../../processes/proc.js';
import type { OwnershipRecord } from './ownership.js';
import type { RecordStore } from './records.js';
import { sendSignal } from './tree.js';

export interface OwnedStart<Details> {
  record: OwnershipRecord & Details;
  /** Only this life of the manager has it; a successor has the record. */
  handle: ChildProcess;
}

export const newMarker = (): string => `vramflow-${randomUUID()}`;

/**
 * Writes the intent, then spawns with the marker in the environment, then completes the record with pid and start
 * time. A manager that dies in between leaves an intent whose marker finds the process in /proc.
 *
 * The process gets a session and a group of its own; stdout and stderr go to `log`.
 * @throws what `spawn` reports (ENOENT, EACCES …); then the record is removed.
 */
export async function spawnOwned<Details extends object>(
  store: RecordStore<Details>,
  options: { marker: string; command: string[]; env: NodeJS.ProcessEnv; cwd?: string; log: string; details: Details },
): Promise<OwnedStart<Details>> {
  const { marker, command, details } = options;
  const [file, ...args] = command;
  if (file === undefined) throw new TypeError('A command to start needs at least the name of a program.');
  const bootId = await readBootId();
  const intent = { ...details, marker, bootId, pid: null, startTicks: null, command };
  await store.write(intent);
  const handle = await start(file, args, options).catch(async (error: unknown) => {
    await store.remove(marker);
    throw error;
  });
  try {
    const sight = handle.pid === undefined ? 'unknown' : await lookAt(handle.pid);
    const startTicks = typeof sight === 'string' ? null : sight.startTicks;
    // Without its start time a pid proves nothing; where there is a /proc, the marker finds the process again.
    const pid = startTicks === null && bootId !== null ? null : (handle.pid ?? null);
    const record = { ...intent, pid, startTicks };
    await store.write(record);
    return { record, handle };
  } catch (error) {
    killByHandle(handle, 'SIGKILL');
    throw error;
  }
}

/**
 * Signals the group of a child that this process holds: its pid stays its own until the exit was seen here. One that has
 * become another user's, by sudo for one, cannot be signalled, and goes on.
 */
export function killByHandle(handle: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): void {
  if (handle.pid === undefined || handle.exitCode !== null || handle.signalCode !== null) return;
  if (process.platform === 'win32') handle.kill(signal);
  else sendSignal(-handle.pid, signal);
}

async function start(
  file: string,
  args: string[],
  options: { marker: string; env: NodeJS.ProcessEnv; cwd?: string; log: string },
): Promise<ChildProcess> {
  const log = await open(options.log, 'a', 0o600);
  try {
    const handle = spawn(file, args, {
      detached: true,
      cwd: options.cwd,
      stdio: ['ignore', log.fd, log.fd],
      env: { ...options.env, [OWNER_VARIABLE]: options.marker },
    });
    handle.unref();
    await once(handle, 'spawn');
    return handle;
  } finally {
    await log.close();
  }
}
