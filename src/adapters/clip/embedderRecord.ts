/** What the ownership record of an embedder process says beyond the proof, and the files beside it. */
import { mkdtemp, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { z } from 'zod';

import type { OwnershipRecord } from '../processes/ownership.js';
import { EmbedderError } from './failure.js';
import type { WireHealth } from './wire.js';

export const embedderDetails = z.object({
  device: z.enum(['cpu', 'cuda']),
  /** The GPU that it was started on; null on the CPU. */
  gpu: z.string().nullable(),
  socket: z.string(),
  log: z.string(),
  /** Null until the process has been ready once. */
  ready: z.object({ provider: z.string(), dimension: z.int().positive() }).nullable(),
});

export type EmbedderRecord = OwnershipRecord & z.infer<typeof embedderDetails>;
type Files = Pick<EmbedderRecord, 'socket' | 'log'>;

/** A socket's path has at most 108 bytes on Linux and 104 on macOS, its end included. */
const SOCKET_PATH_BYTES = 103;

export async function filesOf(stateDir: string, marker: string): Promise<Files> {
  const log = join(stateDir, `${marker}.log`);
  const beside = join(stateDir, `${marker}.sock`);
  if (Buffer.byteLength(beside) <= SOCKET_PATH_BYTES) return { socket: beside, log };
  return { socket: join(await mkdtemp(join(tmpdir(), 'vramflow-')), 's'), log };
}

/** Nothing happens to files that are gone. */
export async function removeFiles({ socket, log }: Files): Promise<void> {
  await rm(log, { force: true });
  await rm(socket, { force: true });
  // A folder of its own; emptied by now, and left alone if it is not.
  if (dirname(socket) !== dirname(log)) await rmdir(dirname(socket)).catch(() => undefined);
}

export function readyFrom({ provider, dimension }: WireHealth): NonNullable<EmbedderRecord['ready']> {
  if (dimension === null) throw new EmbedderError('protocol', 'The embedder is ready but names no dimension.');
  return { provider, dimension };
}
