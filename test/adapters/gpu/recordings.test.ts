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
    for (const [index, { at, kind, text }] of lines.entries()) {
      if (kind === 'process') {
        const line = parseProcessLine(text);
        if (line.kind !== 'process') throw new Error(text);
        if (line.process.name === 'unknown') unnamed += 1;
        table.see(line.process, at);
      }
      for (const { name } of table.list(at, WINDOW_MS) ?? []) expect(name).toBe('/usr/bin/python3');
      const gone = /^reaped (\d+)$/.exec(kind === 'mark' ? text : '');
      if (gone === null) continue;
      ends += 1;
      const later = lines.slice(index).filter((line) => line.kind === 'process' && line.at > at + WINDOW_MS);
      expect(later.filter((line) => line.text.includes(`, ${gone[1]}, `))).toEqual([]);
    }
    expect([unnamed > 0, ends > 0]).toEqual([true, true]);
  });
});
