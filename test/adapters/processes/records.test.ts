import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';
import { createRecordStore, type RecordStore } from '../../../src/adapters/processes/records.js';
import { newMarker, spawnOwned } from '../../../src/adapters/processes/spawn.js';
import { findByMarker } from '../../../src/processes/proc.js';
import { type Details, details, tempFolder } from './owned.js';

const record = (marker: string) => ({ marker, bootId: 'b', pid: 7, startTicks: 9, command: ['x', 'y'], name: 'one' });

describe('ownership records', () => {
  it('come back as they were written, replaced and removed by their marker', async () => {
    const folder = join(await tempFolder(), 'not', 'there', 'yet');
    const store = createRecordStore(folder, details);
    expect(await store.list()).toEqual([]);
    await store.write(record('a'));
    await store.write(record('b'));
    await store.write({ ...record('a'), pid: 8 });
    expect(await createRecordStore(folder, details).list()).toEqual([{ ...record('a'), pid: 8 }, record('b')]);
    await store.remove('a');
    await store.remove('a');
    expect(await store.list()).toEqual([record('b')]);
  });

  it('set a damaged file aside with a warning and go on with the others', async () => {
    const folder = await tempFolder();
    const store = createRecordStore(folder, details);
    await store.write(record('good'));
    await writeFile(join(folder, 'cut.owned.json'), '{"marker":"cu');
    await writeFile(join(folder, 'odd.owned.json'), JSON.stringify({ ...record('odd'), pid: -1 }));
    await writeFile(join(folder, 'half.owned.json.next'), '{');
    const warned = once(process, 'warning');
    expect(await store.list()).toEqual([record('good')]);
    expect(String((await warned)[0])).toContain('cut.owned.json');
    expect((await readdir(folder)).sort()).toContain('odd.owned.json.broken');
  });
});

describe.runIf(process.platform === 'linux')('a start', () => {
  const start = (store: RecordStore<Details>, folder: string, marker: string, command: string[]) =>
    spawnOwned(store, { marker, command, env: process.env, log: join(folder, 'log'), details: { name: 'x' } });

  it('leaves no record of a program that does not exist', async () => {
    const folder = await tempFolder();
    const store = createRecordStore(folder, details);
    await expect(start(store, folder, newMarker(), ['/no/such/program'])).rejects.toThrow('ENOENT');
    expect(await store.list()).toEqual([]);
  });

  it('leaves no process that it could not record', async () => {
    const folder = await tempFolder();
    const real = createRecordStore(folder, details);
    let pid: number | null = null;
    const full: RecordStore<Details> = {
      ...real,
      write: async (written) => {
        if (written.pid === null) return real.write(written);
        pid = written.pid;
        throw new Error('no space left on device');
      },
    };
    const marker = newMarker();
    await expect(start(full, folder, marker, ['sleep', '60'])).rejects.toThrow('no space');
    expect(pid).not.toBeNull();
    await expect.poll(() => findByMarker(marker)).toEqual([]);
  });
});
