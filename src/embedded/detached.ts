/** Processes that outlive the one that starts them, and the files that tell the next one about them. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import type { z } from 'zod';

import { type Identity, identifyStarted, OWNER_VARIABLE } from './processProof.js';

/** A log larger than this is set aside (`.1`) at the next start, so two of them are the most there is. */
const LOG_LIMIT_BYTES = 10 * 1024 * 1024;

export interface Detached {
  pid: number;
  /** Null where there is no /proc: then it can never be proven ours. */
  identity: Identity | null;
  /** Resolves when it ends; only the process that started it is told. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** The log's size before the start: what follows is of this run. */
  logOffset: number;
}

/** The marker of one part of one data folder: a process that carries it can be found without a record. */
export function markerOf(dataFolder: string, part: string): string {
  const key = createHash('sha256').update(resolve(dataFolder)).digest('hex').slice(0, 16);
  return `vramflow-${part}-${key}`;
}

/**
 * Starts a program in a session of its own, its output appended to a log file.
 * @throws what spawn reports (ENOENT, EACCES)
 */
export async function startDetached(options: {
  command: string;
  args: readonly string[];
  marker: string;
  logFile: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
}): Promise<Detached> {
  const log = await openLog(options.logFile);
  try {
    const logOffset = (await log.stat()).size;
    const child = spawn(options.command, options.args, {
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: { ...(options.env ?? process.env), [OWNER_VARIABLE]: options.marker },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((done) => {
      child.on('exit', (code, signal) => done({ code, signal }));
    });
    await once(child, 'spawn');
    child.unref();
    const pid = child.pid ?? 0;
    return { pid, identity: await identifyStarted(pid, options.marker), exited, logOffset };
  } finally {
    await log.close();
  }
}

async function openLog(file: string) {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size > LOG_LIMIT_BYTES) await rename(file, `${file}.1`);
  return open(file, 'a', 0o600);
}

/** The last lines that a run wrote, at most 64 KB back; empty when there is no log. */
export async function lastLines(file: string, count: number, offset = 0): Promise<string[]> {
  let text: string;
  try {
    text = (await readFile(file)).subarray(offset).subarray(-65_536).toString('utf8');
  } catch {
    // No log was written yet: there is nothing to show.
    return [];
  }
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-count);
}

/** Replaces a JSON file whole or not at all. */
export async function writeRecord(file: string, value: unknown): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const next = join(dirname(file), `.${basename(file)}.${process.pid}`);
  try {
    await writeFile(next, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
    await rename(next, file);
  } catch (error) {
    await rm(next, { force: true });
    throw error;
  }
}

/** Null when there is none, or when it is none of ours (then the process, if any, is found by its marker). */
export async function readRecord<T>(file: string, schema: z.ZodType<T>): Promise<T | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    process.emitWarning(`${file} is not a record of vramflow's; it is written anew.`);
    return null;
  }
}
