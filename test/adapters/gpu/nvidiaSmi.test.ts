import { afterEach, describe, expect, it } from 'vitest';
import { createNvidiaSmiReader } from '../../../src/adapters/gpu/nvidiaSmi.js';
import type { GpuReader } from '../../../src/adapters/gpu/reader.js';
import {
  appLine,
  createFakeSmi,
  type FakeSmi,
  gpuLine,
  listLine,
  type Recorder,
  record,
  type Script,
} from './smiScript.js';

const clock = { now: () => performance.now() };
const cleanups: (() => Promise<void> | void)[] = [];

function begin(script: Script, periodMs = 100): { smi: FakeSmi; reader: GpuReader; seen: Recorder } {
  const smi = createFakeSmi(script);
  const reader = createNvidiaSmiReader({ command: smi.command, clock, hangAfterMs: 1_500 });
  reader.setPeriod(periodMs);
  const seen = record(reader);
  cleanups.push(async () => {
    await reader.stop();
    for (const { pid } of smi.starts()) expect(isAlive(pid), `process ${pid} outlives its reader`).toBe(false);
    smi.remove();
  });
  return { smi, reader, seen };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const two = { list: [listLine(0), listLine(1)], gpu: [gpuLine(0, 1_000), gpuLine(1, 2_000)] };

describe('the nvidia-smi reader', () => {
  it('gives every GPU in one sample and follows the figures', async () => {
    const { smi, seen } = begin(two);
    const first = await seen.until(() => true, 0);
    expect(first.gpus.map(({ uuid, usedMb, health }) => [uuid, usedMb, health])).toEqual([
      ['GPU-t-0', 1_000, 'ok'],
      ['GPU-t-1', 2_000, 'ok'],
    ]);
    smi.play({ ...two, gpu: [gpuLine(0, 9_000), gpuLine(1, 2_000)] });
    const changed = await seen.until(({ gpus }) => gpus[0]?.usedMb === 9_000);
    expect(changed.gpus).toHaveLength(2);
    expect(changed.problem).toBeNull();
  });

  it('lists processes, and believes silence only after a query has proven it', async () => {
    const { smi, seen } = begin({ ...two, apps: [appLine(0, 11), appLine(1, 12)] });
    const both = await seen.until(({ processes }) => processes?.length === 2, 0);
    expect(both.processes).toContainEqual({ uuid: 'GPU-t-1', pid: 12, name: 'program-12', usedMb: 500 });
    smi.play({ ...two, apps: [appLine(0, 11)] });
    await seen.until(({ processes }) => processes?.length === 1);
    const queries = smi.starts('apps').filter(({ period }) => period === 'once').length;
    const from = seen.samples.length;
    smi.play(two);
    await seen.until(({ processes }) => processes?.length === 0);
    // More than one on a busy machine: the stream is late again.
    expect(smi.starts('apps').filter(({ period }) => period === 'once').length).toBeGreaterThan(queries);
    const lengths = seen.samples.slice(from).map(({ processes }) => processes?.length ?? null);
    expect(lengths.indexOf(null), 'unknown before proven empty').toBeLessThan(lengths.indexOf(0));
    expect(lengths).toContain(null);
  });

  it('does not take a hung process stream for an empty one', async () => {
    const { smi, seen } = begin({ ...two, apps: [appLine(0, 11)] });
    await seen.until(({ processes }) => processes?.length === 1, 0);
    const from = seen.samples.length;
    smi.play({ ...two, hang: ['apps'] });
    await seen.until(({ processes }) => processes === null);
    smi.play({ ...two, apps: [appLine(0, 11)] });
    await seen.until(({ processes }) => processes?.length === 1);
    expect(seen.samples.slice(from).filter(({ processes }) => processes?.length === 0)).toEqual([]);
    expect(seen.samples.slice(from).every(({ gpus }) => gpus.every(({ health }) => health === 'ok'))).toBe(true);
  });

  it('changes its period without a gap', async () => {
    const { smi, reader, seen } = begin(two, 300);
    await seen.until(() => true, 0);
    const from = seen.samples.length;
    reader.setPeriod(100);
    const old = smi.starts('gpu')[0]?.pid ?? 0;
    while (isAlive(old)) await seen.until(() => true);
    expect(
      seen.samples.length - from,
      'the old stream stays until the new one has given samples',
    ).toBeGreaterThanOrEqual(3);
    await seen.until(() => true);
    expect(smi.starts('gpu').map(({ period }) => period)).toEqual(['300', '100']);
    expect(seen.samples.every(({ gpus }) => gpus.every(({ health }) => health === 'ok'))).toBe(true);
  });

  it('starts the list of processes again that ended before its pair took over', async () => {
    const { smi, reader, seen } = begin(two, 3_000);
    await seen.until(({ processes }) => processes?.length === 0, 0);
    const old = smi.starts('gpu')[0]?.pid ?? 0;
    // Only a list that begins now hears of it: the other one looks again in three seconds.
    smi.play({ ...two, refuses: '--query-compute-apps' });
    reader.setPeriod(100);
    await expect
      .poll(() => smi.starts('apps').filter(({ period }) => period === '100').length, { timeout: 10_000 })
      .toBe(1);
    const [first] = smi.starts('apps').filter(({ period }) => period === '100');
    await expect.poll(() => isAlive(first?.pid ?? 0), { timeout: 10_000 }).toBe(false);
    smi.play(two);
    await expect.poll(() => isAlive(old), { timeout: 10_000 }).toBe(false);
    await seen.until(({ processes }) => processes?.length === 0);
    expect(smi.starts('apps').filter(({ period }) => period === '100')).toHaveLength(2);
  });

  it('knows nothing while the stream is down, says so again and again, and recovers', async () => {
    const { smi, seen } = begin(two);
    await seen.until(() => true, 0);
    const mismatch = 'Failed to initialize NVML: Driver/library version mismatch';
    smi.play({ list: [mismatch], gpu: [mismatch], apps: [mismatch], exit: { list: 18, gpu: 18, apps: 18 } });
    const down = await seen.until(({ gpus }) => gpus.every(({ health }) => health === 'unknown'));
    expect(down).toMatchObject({ processes: null, problem: expect.stringContaining('Reboot') });
    expect(down.gpus.map(({ uuid, totalMb, usedMb }) => [uuid, totalMb, usedMb])).toEqual([
      ['GPU-t-0', 24_564, null],
      ['GPU-t-1', 24_564, null],
    ]);
    await seen.until(({ problem }) => problem !== null);
    await seen.until(({ problem }) => problem !== null);
    smi.play(two);
    const back = await seen.until(({ gpus }) => gpus.every(({ health }) => health === 'ok'));
    expect(back.gpus.map(({ usedMb }) => usedMb)).toEqual([1_000, 2_000]);
  });

  it('kills a hung stream once, shows unknown at once, and starts the next when it has gone', async () => {
    const { smi, seen } = begin(two);
    await seen.until(() => true, 0);
    const hung = smi.starts('gpu')[0]?.pid ?? 0;
    smi.play({ ...two, hang: ['gpu'] });
    const unknown = await seen.until(({ gpus }) => gpus.every(({ usedMb }) => usedMb === null));
    expect(unknown.problem).toContain('may hang');
    smi.play(two);
    await seen.until(({ gpus }) => gpus.every(({ health }) => health === 'ok'));
    expect(isAlive(hung)).toBe(false);
  });

  it('keeps a GPU that the driver has lost, as lost, and reads the others', async () => {
    const { smi, seen } = begin(two);
    await seen.until(() => true, 0);
    const words = 'Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  Reboot';
    smi.play({ ...two, gpu: [gpuLine(0, 1_000), words] });
    const lost = await seen.until(({ gpus }) => gpus[1]?.health === 'lost');
    expect(lost.gpus[0]).toMatchObject({ usedMb: 1_000, health: 'ok' });
    expect(lost.gpus[1]).toMatchObject({ usedMb: null, totalMb: 24_564, problem: expect.stringContaining('Xid') });
    smi.play(two);
    await seen.until(({ gpus }) => gpus[1]?.health === 'ok');
  });

  it('keeps a GPU that is no longer shown, as unknown, and takes a new one in', async () => {
    const { smi, seen } = begin(two);
    await seen.until(() => true, 0);
    smi.play({ gpu: [gpuLine(0, 1_000)] });
    const gone = await seen.until(({ gpus }) => gpus[1]?.health === 'unknown');
    expect(gone.gpus[1]).toMatchObject({ usedMb: null, problem: expect.stringContaining('removed') });
    smi.play({ gpu: [gpuLine(0, 1_000), gpuLine(1, 2_000), gpuLine(2, 3_000)] });
    const more = await seen.until(({ gpus }) => gpus.length === 3 && gpus.every(({ health }) => health === 'ok'));
    expect(more.gpus.map(({ usedMb }) => usedMb)).toEqual([1_000, 2_000, 3_000]);
  });

  it('shows a cut line as unknown for that GPU only', async () => {
    const { smi, seen } = begin(two);
    await seen.until(() => true, 0);
    smi.play({ ...two, gpu: [gpuLine(0, 1_000), gpuLine(1, 2_000).slice(0, 42)] });
    const cut = await seen.until(({ gpus }) => gpus[1]?.health === 'unknown');
    expect(cut.gpus[0]?.health).toBe('ok');
    expect(cut.problem).toContain('cut line');
  });

  it('does without the MIG field where the driver is too old for it', async () => {
    const old = '0, GPU-t-0, 00000000:01:00.0, 8192, 77, 8115, 5, 40, Test GPU 0';
    const { seen } = begin({ list: [listLine(0)], gpu: [old], refuses: 'mig.mode.current' });
    expect((await seen.until(({ gpus }) => gpus[0]?.health === 'ok', 0)).gpus[0]?.usedMb).toBe(77);
  });

  it('says what is missing when the program is missing, and stops cleanly', async () => {
    const reader = createNvidiaSmiReader({ command: ['/nowhere/nvidia-smi'], clock, hangAfterMs: 1_500 });
    const seen = record(reader);
    expect(await seen.until(() => true, 0)).toMatchObject({
      gpus: [],
      problem: expect.stringContaining('not installed'),
    });
    await reader.stop();
  });
});
