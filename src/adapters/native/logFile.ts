/**
 * The output of a service. The service itself appends to the file (O_APPEND), so it goes on when the agent has died.
 * A file that is too large is copied aside and emptied in place, because a rename would leave the service writing to
 * the old one. What is written between the last copied byte and the emptying, well below a millisecond, is lost.
 * Nobody rotates while no agent runs.
 */
import { copyFile, type FileHandle, open, rename, rm, stat, truncate } from 'node:fs/promises';

import { pause } from '../processes/pause.js';

export interface LogLimits {
  /** Above this the file is rotated; it can be larger by what the service writes in a second. */
  bytes: number;
  /** So many older ones are kept, as `<file>.1` (the youngest) and on. */
  kept: number;
}

/** At most about 40 MB a service. */
export const LOG_LIMITS: LogLimits = { bytes: 10 * 1024 * 1024, kept: 3 };

const FOLLOW_EVERY_MS = 200;
const CHUNK_BYTES = 64 * 1024;
/** A line without an end is given out in pieces of this size. */
const LONGEST_LINE = 64 * 1024;

export interface LogFile {
  readonly path: string;
  /** The next run writes to an empty file; call it while nobody writes. */
  beginRun(): Promise<void>;
  rotateIfLarge(): Promise<void>;
  /** The last whole lines of the run, oldest first, then with `follow` those to come. The abort ends it quietly. */
  lines(options: { tail: number; follow: boolean; signal: AbortSignal }): AsyncGenerator<string, void, undefined>;
}

export function createLogFile(path: string, limits: LogLimits = LOG_LIMITS): LogFile {
  let rotations = 0;

  async function shift(): Promise<void> {
    await rm(`${path}.${limits.kept}`, { force: true });
    for (let n = limits.kept - 1; n >= 1; n--) await renameIfThere(`${path}.${n}`, `${path}.${n + 1}`);
  }

  return {
    path,
    async beginRun() {
      if ((await sizeOf(path)) === 0) return;
      await shift();
      await renameIfThere(path, `${path}.1`);
      rotations++;
    },
    async rotateIfLarge() {
      if ((await sizeOf(path)) <= limits.bytes) return;
      await shift();
      try {
        await copyFile(path, `${path}.1`);
        await appendNewer(path, `${path}.1`);
      } catch (error) {
        // A full disk: the output of one service must not keep it full.
        await rm(`${path}.1`, { force: true });
        process.emitWarning(`${path} was emptied without a copy: ${(error as Error).message}`);
      }
      await truncate(path, 0);
      rotations++;
    },
    async *lines({ tail, follow, signal }) {
      let seenRotations = rotations;
      let offset = await startOfTail(path, tail);
      const until = follow ? Number.POSITIVE_INFINITY : await sizeOf(path);
      let rest = '';
      while (!signal.aborted && offset < until) {
        // What was not read before a rotation stands at the same place of the copy.
        const rotated = seenRotations !== rotations;
        const chunk = await readFrom(rotated ? `${path}.1` : path, offset);
        offset = chunk.end;
        const split = splitLines(rest + chunk.text);
        yield* split.lines;
        rest = split.rest;
        if (chunk.text !== '') continue;
        if (rotated) {
          seenRotations = rotations;
          offset = 0;
        } else if (!follow) break;
        else await pause(FOLLOW_EVERY_MS, signal).catch(() => {}); // Only the abort ends the wait early.
      }
      if (!follow && rest !== '') yield rest;
    },
  };
}

function splitLines(text: string): { lines: string[]; rest: string } {
  const lines = text.split('\n');
  let rest = lines.pop() ?? '';
  for (; rest.length > LONGEST_LINE; rest = rest.slice(LONGEST_LINE)) lines.push(rest.slice(0, LONGEST_LINE));
  return { lines: lines.map((line) => line.replace(/\r$/, '')), rest };
}

/** Where the last `tail` lines begin; read backwards, so that a large file costs no more than a small one. */
async function startOfTail(path: string, tail: number): Promise<number> {
  return withFile(path, 0, async (file) => {
    const { size } = await file.stat();
    if (tail <= 0) return size;
    let wanted = tail;
    for (let end = size; end > 0; ) {
      const begin = Math.max(0, end - CHUNK_BYTES);
      const { buffer } = await file.read(Buffer.alloc(end - begin), 0, end - begin, begin);
      for (let at = buffer.length - 1; at >= 0; at--) {
        // The end of the last line begins no other one.
        if (buffer[at] !== 0x0a || begin + at === size - 1) continue;
        if (--wanted <= 0) return begin + at + 1;
      }
      end = begin;
    }
    return 0;
  });
}

/** At most one chunk, cut at a whole character; `end` is where the next one begins. */
async function readFrom(path: string, offset: number): Promise<{ text: string; end: number }> {
  return withFile(path, { text: '', end: offset }, async (file) => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
    const whole = wholeCharacters(buffer.subarray(0, bytesRead));
    return { text: buffer.toString('utf8', 0, whole), end: offset + whole };
  });
}

/** The length without a UTF-8 character that is cut at the end. */
function wholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(4, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** What was written while the file was copied. */
async function appendNewer(from: string, to: string): Promise<void> {
  const target = await open(to, 'a');
  try {
    for (let offset = (await target.stat()).size; ; ) {
      const newer = await withFile(from, Buffer.alloc(0), async (file) => {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, offset);
        return buffer.subarray(0, bytesRead);
      });
      await target.appendFile(newer);
      offset += newer.length;
      if (newer.length < CHUNK_BYTES) return;
    }
  } finally {
    await target.close();
  }
}

async function withFile<T>(path: string, missing: T, use: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return missing;
    throw error;
  }
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    ({ size }) => size,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return 0;
      throw error;
    },
  );
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
