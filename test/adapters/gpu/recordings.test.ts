/** What a real card printed, read as the reader reads it. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseGpuLine, parseProcessLine } from '../../../src/adapters/gpu/parseNvidiaSmi.js';
import { createProcessTable } from '../../../src/adapters/gpu/processTable.js';

const FOLDER = fileURLToPath(new URL('./recordings', import.meta.url));
/** Two ticks of 100 ms and the reader's tolerance. */
const WINDOW_MS = 300;

interface Line {
  at: number;
  kind: string;
  text: string;
}

const linesOf = (file: string): Line[] =>
  readFileSync(`${FOLDER}/${file}`, 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, at, kind = '', text = ''] = /^(\d+) (gpu|process|mark) (.*)$/.exec(line) ?? [];
      return at === undefined ? [] : [{ at: Number(at), kind, text }];
    });

describe.each(readdirSync(FOLDER))('the recording %s', (file) => {
  const lines = linesOf(file);

  it('is read without a word about it, line by line', () => {
    for (const { kind, text } of lines) {
      if (kind === 'gpu') {
        const line = parseGpuLine(text, true);
        expect(line).toMatchObject({ kind: 'gpu', row: { reading: { health: 'ok', problem: null } } });
      }
      if (kind === 'process') expect(parseProcessLine(text)).toMatchObject({ kind: 'process' });
    }
  });

  it('names every process to its end, and has none a window after that', () => {
    const table = createProcessTable(() => false);
    let unnamed = 0;
    let ends = 0;
    let last = { pid: 0, at: Number.POSITIVE_INFINITY };
    for (const { at, kind, text } of lines) {
      if (kind === 'process') {
        const line = parseProcessLine(text);
        if (line.kind !== 'process') throw new Error(text);
        if (line.process.name === 'unknown') unnamed += 1;
        table.see(line.process, at);
      }
      const listed = table.list(at, WINDOW_MS) ?? [];
      for (const { name } of listed) expect(name).toBe('/usr/bin/python3');
      // A tick beyond the window, for a line that was on its way.
      if (at > last.at + WINDOW_MS + 100) expect(listed.map(({ pid }) => pid)).not.toContain(last.pid);
      const gone = /^reaped (\d+)$/.exec(kind === 'mark' ? text : '');
      if (gone === null) continue;
      ends += 1;
      last = { pid: Number(gone[1]), at };
    }
    expect([unnamed > 0, ends > 0]).toEqual([true, true]);
  });
});
