/** Starts owned processes for tests, and ends whatever a test leaves. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, vi } from 'vitest';
import { z } from 'zod';

import type { OwnershipRecord } from '../../../src/adapters/processes/ownership.js';
import { createRecordStore } from '../../../src/adapters/processes/records.js';
import { newMarker, type OwnedStart, spawnOwned } from '../../../src/adapters/processes/spawn.js';
import { lookAt } from '../../../src/processes/proc.js';

export const details = z.object({ name: z.string() });
export type Details = z.infer<typeof details>;

const leftovers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const tidy of leftovers.splice(0).reverse()) await tidy();
});
export const tidyLater = (tidy: () => Promise<void> | void): void => void leftovers.push(tidy);

export async function tempFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'vramflow-test-'));
  tidyLater(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a line of JavaScript as an owned process and waits until it has printed `up`. */
export async function startOwned(
  folder: string,
  script: string,
): Promise<OwnedStart<Details> & { log: string; pid: number }> {
  const store = createRecordStore(folder, details);
  const marker = newMarker();
  const log = join(folder, `${marker}.log`);
  const command = [process.execPath, '-e', script];
  const started = await spawnOwned(store, { marker, command, env: process.env, log, details: { name: 'x' } });
  const pid = started.handle.pid ?? 0;
  tidyLater(() => killGroup(pid));
  await printed(log, 'up');
  return { ...started, log, pid };
}

export async function printed(log: string, text: string): Promise<void> {
  await vi.waitFor(async () => {
    if (!(await readFile(log, 'utf8')).includes(text)) throw new Error(`${log} does not say ${text} yet`);
  }, 15_000);
}

/** A process that ended but that nobody reaped does not live. */
export async function lives(pid: number): Promise<boolean> {
  const sight = await lookAt(pid);
  return typeof sight !== 'string' && !sight.ended;
}

/** Of a process that this test started, by its handle's pid. */
export function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended, as it should.
  }
}

/** The record as a manager leaves it that dies between the spawn and the second write. */
export const asIntent = <R extends OwnershipRecord>(record: R): R => ({ ...record, pid: null, startTicks: null });
