/** Ownership records on disk: one file a process, replaced atomically and flushed, so a power cut loses none. */
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import type { OwnershipRecord } from './ownership.js';

const ENDING = '.owned.json';

const ownership = z.object({
  marker: z.string().min(1),
  bootId: z.string().nullable(),
  pid: z.int().positive().nullable(),
  startTicks: z.int().nonnegative().nullable(),
  command: z.array(z.string()),
});

export interface RecordStore<Details> {
  write(record: OwnershipRecord & Details): Promise<void>;
  list(): Promise<(OwnershipRecord & Details)[]>;
  /** Nothing happens when there is none. */
  remove(marker: string): Promise<void>;
}

/**
 * The records in a folder, which is created for this user alone. A file that is no record is set aside with a
 * warning: it proves nothing, so its process is a stranger from then on.
 */
export function createRecordStore<Details extends object>(
  folder: string,
  details: z.ZodType<Details>,
): RecordStore<Details> {
  const schema = z.intersection(ownership, details);
  const fileOf = (marker: string) => join(folder, `${marker}${ENDING}`);

  return {
    async write(record) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await replaceFile(fileOf(record.marker), folder, `${JSON.stringify(record, null, 1)}\n`);
    },

    async list() {
      const records: (OwnershipRecord & Details)[] = [];
      for (const name of await namesIn(folder)) {
        const file = join(folder, name);
        const text = await readIfThere(file);
        if (text === null) continue;
        const record = parse(schema, text);
        if (record !== null) records.push(record);
        else {
          await rename(file, `${file}.broken`);
          process.emitWarning(`${file} is no ownership record; it was set aside as ${name}.broken.`);
        }
      }
      return records;
    },

    async remove(marker) {
      await rm(fileOf(marker), { force: true });
    },
  };
}

function parse<Record>(schema: z.ZodType<Record>, text: string): Record | null {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    // Whether JSON or schema fail, the caller says so and sets the file aside.
    return null;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith(ENDING)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    // Removed between listing and reading, by the end of its process.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

async function replaceFile(file: string, folder: string, text: string): Promise<void> {
  const next = `${file}.next`;
  const handle = await open(next, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(next, file);
  // The rename itself is on disk once the folder is; Windows cannot open folders and does without.
  if (process.platform === 'win32') return;
  const directory = await open(folder, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
