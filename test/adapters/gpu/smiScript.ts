/** A script for fakeNvidiaSmi.mjs, and a recorder for what a reader says. */
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { GpuReader, GpuSample } from '../../../src/adapters/gpu/reader.js';

type Part = 'list' | 'gpu' | 'apps';

export interface Script {
  list?: string[];
  gpu?: string[];
  apps?: string[];
  hang?: Part[];
  exit?: Partial<Record<Part, number>>;
  /** A field that this old nvidia-smi does not know. */
  refuses?: string;
}

export interface FakeSmi {
  command: string[];
  play(script: Script): void;
  /** What was started so far: part, period or `once`, pid. */
  starts(part?: Part): { part: string; period: string; pid: number }[];
  remove(): void;
}

export function createFakeSmi(first: Script): FakeSmi {
  const folder = mkdtempSync(join(tmpdir(), 'fake-smi-'));
  const path = join(folder, 'script.json');
  const play = (script: Script): void => {
    writeFileSync(`${path}.new`, JSON.stringify(script));
    renameSync(`${path}.new`, path);
  };
  play(first);
  writeFileSync(`${path}.starts`, '');
  return {
    command: [process.execPath, fileURLToPath(new URL('./fakeNvidiaSmi.mjs', import.meta.url)), path],
    play,
    starts: (wanted) =>
      readFileSync(`${path}.starts`, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => line.split(' '))
        .map(([part = '', period = '', pid = '0']) => ({ part, period, pid: Number(pid) }))
        .filter(({ part }) => wanted === undefined || part === wanted),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export const listLine = (index: number): string => `GPU ${index}: Test GPU ${index} (UUID: GPU-t-${index})`;
export const gpuLine = (index: number, usedMb: number | string): string =>
  `${index}, GPU-t-${index}, 00000000:0${index + 1}:00.0, 24564, ${usedMb}, ${24564 - Number(usedMb)}, 5, 40, [N/A], Test GPU ${index}`;
export const appLine = (index: number, pid: number, usedMb = 500): string =>
  `GPU-t-${index}, ${pid}, ${usedMb}, program-${pid}`;

export interface Recorder {
  samples: GpuSample[];
  /** The next sample, or one already there from `from` on, that holds. */
  until(holds: (sample: GpuSample) => boolean, from?: number): Promise<GpuSample>;
}

export function record(reader: GpuReader): Recorder {
  const samples: GpuSample[] = [];
  const waiting = new Set<() => void>();
  void reader.start((sample) => {
    samples.push(sample);
    for (const look of waiting) look();
  });
  return {
    samples,
    until: (holds, from = samples.length) =>
      new Promise((resolve) => {
        const look = (): void => {
          const found = samples.slice(from).find(holds);
          if (!found) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
  };
}
