import { afterEach, describe, expect, it } from 'vitest';
import { chooseReader, judgeList } from '../../../src/adapters/gpu/chooseReader.js';
import { createDeclaredReader } from '../../../src/adapters/gpu/declared.js';
import { diagnose } from '../../../src/adapters/gpu/diagnoseNvidiaSmi.js';
import { createNoGpuReader } from '../../../src/adapters/gpu/none.js';
import { createFakeSmi, type FakeSmi, listLine, record, type Script } from './smiScript.js';

const clock = { now: () => performance.now() };
const fakes: FakeSmi[] = [];

afterEach(() => {
  for (const fake of fakes.splice(0)) fake.remove();
});

/** Bounded for the one that hangs only: on a machine with much to do, a mere start may take a second. */
async function choose(script: Script): Promise<{ kind: string; warning: string | null }> {
  const fake = createFakeSmi(script);
  fakes.push(fake);
  const { reader, warning } = await chooseReader({
    command: fake.command,
    clock,
    hangAfterMs: script.hang ? 1_000 : 20_000,
  });
  return { kind: reader.kind, warning };
}

describe('the reader auto', () => {
  it('is nvidia-smi where it lists a GPU', async () =>
    expect(await choose({ list: [listLine(0)] })).toEqual({ kind: 'nvidia-smi', warning: null }));

  it('is nvidia-smi, with unknown readings, where a GPU should be', async () => {
    const words = 'Failed to initialize NVML: Driver/library version mismatch';
    expect(await choose({ list: [words], exit: { list: 18 } })).toEqual({
      kind: 'nvidia-smi',
      warning: expect.stringContaining('Reboot'),
    });
  });

  it('is nvidia-smi where the list hangs', async () =>
    expect(await choose({ hang: ['list'] })).toEqual({
      kind: 'nvidia-smi',
      warning: expect.stringContaining('hangs'),
    }));

  it('is none, with the reason, where the driver finds no device', async () =>
    expect(await choose({ list: ['No devices were found'], exit: { list: 6 } })).toEqual({
      kind: 'none',
      warning: expect.stringContaining('lspci'),
    }));

  it('is none, with the reason, where the program is missing', async () => {
    const { reader, warning } = await chooseReader({ command: ['/nowhere/nvidia-smi'], clock });
    expect(reader.kind).toBe('none');
    expect(warning).toContain('not installed');
  });

  it('is none where a wrapper does not find the program', async () =>
    expect(await choose({ exit: { list: 127 } })).toMatchObject({ kind: 'none' }));

  it('takes any other failure for a GPU that cannot be read', () => {
    const attempt = { gpus: 0, diagnosis: null, hung: false, exitCode: 255 };
    expect(judgeList(attempt)).toMatchObject({ use: 'nvidia-smi', warning: expect.stringContaining('255') });
    expect(judgeList({ ...attempt, diagnosis: diagnose('GPU is lost') }).use).toBe('nvidia-smi');
    expect(judgeList({ ...attempt, exitCode: 0 }).use).toBe('none');
  });
});

describe('readers without hardware', () => {
  it('none gives empty samples with the reason, again and again', async () => {
    const reader = createNoGpuReader({ clock, reason: 'no GPU here' });
    reader.setPeriod(10);
    const seen = record(reader);
    const first = await seen.until(() => true, 0);
    expect(first).toMatchObject({ gpus: [], processes: null, problem: 'no GPU here' });
    expect((await seen.until(() => true)).takenAt).toBeGreaterThan(first.takenAt);
    await reader.stop();
  });

  it('declared knows the total and nothing else', async () => {
    const reader = createDeclaredReader({ clock, gpus: [{ uuid: 'GPU-d', name: 'declared', totalMb: 24_576 }] });
    const seen = record(reader);
    expect((await seen.until(() => true, 0)).gpus).toMatchObject([
      { uuid: 'GPU-d', totalMb: 24_576, usedMb: null, temperatureC: null, health: 'unknown' },
    ]);
    await reader.stop();
  });
});
