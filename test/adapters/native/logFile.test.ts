import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it, vi } from 'vitest';

import { createLogFile, type LogFile } from '../../../src/adapters/native/logFile.js';
import { tempFolder } from '../processes/owned.js';
import { driverOf, never, script } from './service.js';

const LIMITS = { bytes: 100, kept: 2 };

async function all(log: LogFile, tail: number): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of log.lines({ tail, follow: false, signal: never() })) lines.push(line);
  return lines;
}

describe('the output of a service', () => {
  it('gives its last lines, also of a large file, with whole characters', async () => {
    const log = createLogFile(join(await tempFolder(), 'log'));
    expect(await all(log, 5)).toEqual([]);
    const written = Array.from({ length: 20_000 }, (_, n) => `Zeile ${n} – größer`);
    await writeFile(log.path, `${written.join('\n')}\nunfinished`);
    expect(await all(log, 3)).toEqual([...written.slice(-2), 'unfinished']);
    expect(await all(log, 100_000)).toEqual([...written, 'unfinished']);
    expect(await all(log, 0)).toEqual([]);
  });

  it('is copied aside and emptied in place when it is too large, and few copies are kept', async () => {
    const log = createLogFile(join(await tempFolder(), 'log'), LIMITS);
    const service = await open(log.path, 'a');
    for (const name of ['a', 'b', 'c', 'd']) {
      await service.appendFile(`${name.repeat(120)}\n`);
      await log.rotateIfLarge();
    }
    await service.appendFile('e\n');
    await log.rotateIfLarge();
    await service.close();
    expect(await readFile(log.path, 'utf8')).toBe('e\n');
    expect(await readFile(`${log.path}.1`, 'utf8')).toBe(`${'d'.repeat(120)}\n`);
    expect(await readFile(`${log.path}.2`, 'utf8')).toBe(`${'c'.repeat(120)}\n`);
    await expect(readFile(`${log.path}.3`)).rejects.toThrow('ENOENT');
  });

  it('is followed over a rotation and into the next run, until the abort', async () => {
    const log = createLogFile(join(await tempFolder(), 'log'), LIMITS);
    const lines: string[] = [];
    const end = new AbortController();
    await writeFile(log.path, 'old\nyoung\n');
    const followed = (async () => {
      for await (const line of log.lines({ tail: 1, follow: true, signal: end.signal })) lines.push(line.slice(0, 8));
    })();
    const has = (count: number) =>
      vi.waitFor(() => expect(lines).toHaveLength(count), { timeout: 5_000, interval: 10 });
    await has(1);
    const service = await open(log.path, 'a');
    await service.appendFile(`before ${'x'.repeat(120)}\n`);
    await log.rotateIfLarge();
    await service.appendFile('after\n');
    await has(3);
    await log.beginRun();
    await writeFile(log.path, 'next run\n');
    await has(4);
    await service.close();
    end.abort();
    await followed;
    expect(lines).toEqual(['young', 'before x', 'after', 'next run']);
    expect(await all(log, 10)).toEqual(['next run']);
  });

  it.runIf(process.platform === 'linux')(
    'loses next to nothing while a service writes without pause, and the agent changes',
    async () => {
      const code = 'let n = 0; setInterval(() => { for (let i = 0; i < 20; i++) console.log(`line ${++n}`); }, 2);';
      const logLimits = { bytes: 20_000, kept: 50 };
      const first = await driverOf(script(code), { logLimits });
      await first.start();
      const lines: string[] = [];
      const rotated = async (driver: typeof first, times: number) => {
        const path = join(driver.stateDir, 'one', `output.log.${times}`);
        await vi.waitFor(() => readFile(path), { timeout: 20_000, interval: 50 });
      };
      await rotated(first, 2);
      await first.driver.close();
      const second = await driverOf(script(code), { stateDir: first.stateDir, logLimits });
      await second.sight();
      await rotated(second, 4);
      await second.stop();
      for (let n = 50; n >= 0; n--) {
        const file = join(first.stateDir, 'one', `output.log${n === 0 ? '' : `.${n}`}`);
        lines.push(...(await readFile(file, 'utf8').catch(() => '')).split('\n').filter(Boolean));
      }
      const numbers = lines.map((line) => Number(line.split(' ')[1])).filter(Number.isFinite);
      const last = numbers.at(-1) ?? 0;
      expect(numbers.length).toBeGreaterThan(last * 0.98);
    },
  );
});
