import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diagnose, normalBusId } from '../../../src/adapters/gpu/diagnoseNvidiaSmi.js';
import { parseGpuLine, parseListLine, parseProcessLine } from '../../../src/adapters/gpu/parseNvidiaSmi.js';
import gpuLines from './fixtures/gpuLines.json' with { type: 'json' };
import messages from './fixtures/messages.json' with { type: 'json' };
import processLines from './fixtures/processLines.json' with { type: 'json' };

describe('a line about a GPU', () => {
  for (const fixture of gpuLines)
    it(`reads ${fixture.name}`, () => {
      const line = parseGpuLine(fixture.line, true);
      expect(line).toMatchObject({ kind: 'gpu', row: { reading: { uuid: 'GPU-aaaa-0', ...fixture.expect } } });
      if (fixture.problem !== undefined)
        expect(line).toMatchObject({ row: { reading: { problem: expect.stringContaining(fixture.problem) } } });
    });

  it('reads an old driver that does not know MIG', () => {
    const line = parseGpuLine('1, GPU-b, 00000000:02:00.0, 8192, 100, 8092, 3, 50, GeForce GTX 1080', false);
    expect(line).toMatchObject({ kind: 'gpu', row: { reading: { index: 1, name: 'GeForce GTX 1080', usedMb: 100 } } });
  });

  it('says once why a lost GPU tells nothing, and apart what another reason keeps', () => {
    const lost = '[GPU is lost]';
    const line = `0, GPU-a, ${lost}, ${lost}, ${lost}, ${lost}, ${lost}, [N/A], GeForce GTX 1080`;
    const read = parseGpuLine(line, false);
    if (read.kind !== 'gpu') throw new Error(`read as ${read.kind}`);
    expect(read.row.reading.problem).toBe(
      `memory.total, memory.used, memory.free, utilization.gpu are "[GPU is lost]": look at 'dmesg' for Xid messages, ` +
        'then reset the GPU or reboot; temperature.gpu is "[N/A]": this GPU or driver does not tell it',
    );
  });

  it('never takes a cut line for a whole one', () => {
    const whole = gpuLines[0]?.line ?? '';
    const numbers = whole.indexOf('NVIDIA');
    for (let length = 1; length <= numbers; length += 1)
      expect(parseGpuLine(whole.slice(0, length), true).kind, `cut after ${length}`).not.toBe('gpu');
  });

  it('never takes a cut line with the next one stuck to it for a whole one', () => {
    const whole = gpuLines[0]?.line ?? '';
    const app = processLines[0]?.line ?? '';
    for (let length = 1; length <= whole.length; length += 1)
      expect(parseGpuLine(whole.slice(0, length) + whole, true).kind, `cut after ${length}`).not.toBe('gpu');
    for (let length = 1; length <= app.length; length += 1)
      expect(parseProcessLine(app.slice(0, length) + app).kind, `cut after ${length}`).not.toBe('process');
  });
});

describe('a sentence of trouble', () => {
  for (const { text, kind, remedy, busId } of messages)
    it(`understands: ${text.slice(0, 70)}`, () => {
      expect(diagnose(text)).toMatchObject({ kind, problem: expect.stringContaining(remedy), busId: busId ?? null });
      expect(parseGpuLine(text, true).kind).toBe('message');
    });

  it('knows one PCI address in its two forms', () => {
    expect(normalBusId('0000:0B:00.0')).toBe(normalBusId('00000000:0B:00.0'));
    expect(normalBusId('0000:0B:00.0')).not.toBe(normalBusId('0001:0B:00.0'));
  });
});

describe('a line about a process', () => {
  for (const { name, line, expect: wanted } of processLines)
    it(`reads ${name}`, () => expect(parseProcessLine(line)).toMatchObject(wanted));
});

describe('a line of the list', () => {
  it('reads GPUs and leaves MIG slices out', () => {
    expect(parseListLine('GPU 1: NVIDIA GeForce RTX 2080 Ti (UUID: GPU-3e34-b)\r')).toEqual({
      index: 1,
      name: 'NVIDIA GeForce RTX 2080 Ti',
      uuid: 'GPU-3e34-b',
    });
    expect(parseListLine('  MIG 1g.5gb Device 0: (UUID: MIG-c7384736-a75d)')).toBeNull();
    expect(parseListLine('No devices were found')).toBeNull();
  });
});

describe('any text whatever', () => {
  const field = fc.oneof(
    fc.string(),
    fc.nat().map(String),
    fc.constantFrom('[N/A]', 'ERR!', '[Unknown Error]', '1,024', '-5', '1e3', '0x10', '٣', '45.5', 'GPU-a', 'Enabled'),
  );
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array).toString('utf8'));
  const csv = fc.array(field, { maxLength: 12 }).map((fields) => ['0', 'GPU-a', ...fields].join(', '));
  const processCsv = fc.array(field, { maxLength: 6 }).map((fields) => ['GPU-a', ...fields].join(', '));
  const text = fc.oneof(bytes, fc.string({ unit: 'binary' }), csv, processCsv);

  const numbersIn = (value: unknown): number[] =>
    typeof value === 'number'
      ? [value]
      : typeof value === 'object' && value !== null
        ? Object.values(value).flatMap(numbersIn)
        : [];
  const digitsOf = (line: string): number[] => (line.match(/\d+/g) ?? []).map(Number);

  it('is parsed without an exception and without a number that is not in it', () => {
    fc.assert(
      fc.property(text, fc.boolean(), (line, withMig) => {
        for (const result of [parseGpuLine(line, withMig), parseProcessLine(line), parseListLine(line)])
          for (const number of numbersIn(result)) expect(digitsOf(line)).toContain(number);
      }),
      { numRuns: 1_000 },
    );
  });

  it('is never a usable GPU without its memory figures, nor odd without a remedy', () => {
    fc.assert(
      fc.property(text, fc.boolean(), (line, withMig) => {
        const result = parseGpuLine(line, withMig);
        if (result.kind !== 'gpu') return;
        const { health, totalMb, usedMb, freeMb, problem } = result.row.reading;
        const unknown = usedMb === null || totalMb === null || freeMb === null;
        if (health === 'ok') expect(!unknown && usedMb <= totalMb && freeMb <= totalMb).toBe(true);
        else expect([unknown, problem !== null && problem !== '']).toEqual([true, true]);
      }),
      { numRuns: 1_000 },
    );
  });
});
