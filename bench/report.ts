/** What the benchmarks share: samples, and a table that says when, where and with what it was measured. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { performance } from 'node:perf_hooks';
import { testBinary } from '../test/parts/temporalBinary.js';

export interface Row {
  what: string;
  measured: string;
  /** The limit of the requirement or the goal, as text; empty where there is none. */
  goal: string;
  /** Null where there is no goal. */
  met: boolean | null;
}

/** Milliseconds of each run, in their order. */
export async function samplesOf(count: number, run: (index: number) => Promise<unknown>): Promise<number[]> {
  const samples: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const begun = performance.now();
    await run(index);
    samples.push(performance.now() - begun);
  }
  return samples;
}

/** Takes turns, so that whatever else the machine does meanwhile weighs on each alike. */
export async function inTurns<Name extends string>(
  count: number,
  runs: Record<Name, (index: number) => Promise<unknown>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(runs) as Name[];
  const samples = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let index = 0; index < count; index += 1) {
    for (const name of names) samples[name].push(...(await samplesOf(1, () => runs[name](index))));
  }
  return samples;
}

/** @param share 0.5 for the median */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  if (value === undefined) throw new RangeError('there are no samples');
  return value;
}

export const median = (samples: readonly number[]): number => quantile(samples, 0.5);

/** `12.3 ms`, with as many digits as say something. */
export const ms = (value: number): string => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;

export const spread = (samples: readonly number[]): string =>
  `${ms(median(samples))} (${ms(Math.min(...samples))} – ${ms(quantile(samples, 0.95))}, n ${samples.length})`;

/** Prints straight to stdout: the test runner would put a frame around each line. */
export async function report(title: string, rows: Row[]): Promise<void> {
  const { server } = await testBinary();
  const sdk = JSON.parse(
    readFileSync(new URL('../node_modules/@temporalio/worker/package.json', import.meta.url), 'utf8'),
  ) as {
    version: string;
  };
  const where = [
    new Date().toISOString().slice(0, 16),
    `${availableParallelism()} cores (${cpus()[0]?.model ?? 'unknown'})`,
    `load ${loadavg()[0]?.toFixed(1) ?? '?'} at the end`,
    `Node ${process.versions.node}`,
    `Temporal server ${server.join('.')}, SDK ${sdk.version}`,
    `commit ${commit()}`,
  ];
  const head: Row = { what: 'what', measured: 'measured (median, least – p95)', goal: 'goal', met: null };
  const widths = (['what', 'measured', 'goal'] as const).map((key) =>
    Math.max(...[head, ...rows].map((row) => row[key].length)),
  );
  const line = (row: Row, verdict: string) =>
    `| ${[row.what, row.measured, row.goal].map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(' | ')} | ${verdict} |`;
  const rule = `|${[...widths, 4].map((width) => '-'.repeat(width + 2)).join('|')}|`;
  const body = rows.map((row) => line(row, row.met === null ? '    ' : row.met ? 'met ' : 'MISS'));
  process.stdout.write(`\n${title}\n${where.join(' · ')}\n\n${[line(head, '    '), rule, ...body].join('\n')}\n`);
}

function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim();
  return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', '--', 'src') === '' ? '' : ' with changes'}`;
}
