import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createLogReader, type LogLine, type LogReader, secondsOf } from '../../../src/adapters/docker/logLines.js';

const time = (n: number): string => `2026-01-31T12:00:00.${String(n).padStart(9, '0')}Z`;

function frame(output: number, message: string): Buffer {
  const body = Buffer.from(message);
  const header = Buffer.alloc(8);
  header.writeUInt8(output, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

/** Gives the bytes in pieces that end at these places. */
function readIn(reader: LogReader, bytes: Buffer, cuts: readonly number[]): LogLine[] {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1))), bytes.length].sort((a, b) => a - b);
  let begin = 0;
  const lines = ends.flatMap((end) => {
    const piece = bytes.subarray(begin, end);
    begin = end;
    return reader.push(piece);
  });
  return [...lines, ...reader.end()];
}

const words = fc.array(fc.string({ unit: 'binary' }).map((word) => word.replace(/[\n\r]/g, ' ')));
const anyCuts = fc.array(fc.nat(100_000), { maxLength: 20 });

describe("Docker's log stream", () => {
  it('comes out line by line, however it is cut', () => {
    const anyLines = fc.array(
      fc.record({ output: fc.constantFrom(1, 2), text: fc.string().map((s) => s.replace(/[\n\r]/g, ' ')) }),
    );
    fc.assert(
      fc.property(anyLines, anyCuts, (lines, cuts) => {
        const bytes = Buffer.concat(lines.map(({ output, text }, i) => frame(output, `${time(i)} ${text}\n`)));
        const expected = lines.map(({ text }, i) => ({ time: time(i), text }));
        expect(readIn(createLogReader(false), bytes, cuts)).toEqual(expected);
      }),
    );
  });

  it('has no frames from a terminal', () => {
    fc.assert(
      fc.property(words, anyCuts, (lines, cuts) => {
        const bytes = Buffer.from(lines.map((text, i) => `${time(i)} ${text}\r\n`).join(''));
        expect(readIn(createLogReader(true), bytes, cuts)).toEqual(
          // What is no valid Unicode becomes so on the way through bytes.
          lines.map((text, i) => ({ time: time(i), text: Buffer.from(text).toString() })),
        );
      }),
    );
  });

  it('puts a line together that Docker has cut, beside the other output', () => {
    const bytes = Buffer.concat([
      frame(1, `${time(1)} loading 10 %`),
      frame(2, `${time(2)} a warning\n`),
      frame(1, `${time(3)} done\n`),
      frame(1, `${time(4)} and no end`),
    ]);
    expect(readIn(createLogReader(false), bytes, [])).toEqual([
      { time: time(2), text: 'a warning' },
      { time: time(1), text: 'loading 10 %done' },
      { time: time(4), text: 'and no end' },
    ]);
  });

  it('gives a line without an end in pieces', () => {
    const reader = createLogReader(false);
    const pieces = [1, 2, 3, 4, 5].flatMap((i) => reader.push(frame(1, `${time(i)} ${'x'.repeat(16_384)}`)));
    expect(pieces.map(({ text }) => text.length)).toEqual([65_536]);
    expect(reader.end().map(({ text }) => text.length)).toEqual([16_384]);
  });
});

describe('a line of a terminal that does not end, as a progress bar', () => {
  it('is given in pieces, too, and the next line is whole', () => {
    const reader = createLogReader(true);
    const pieces = [
      ...reader.push(Buffer.from(`${time(1)} `)),
      ...[1, 2, 3, 4, 5].flatMap(() => reader.push(Buffer.from('x'.repeat(16_384)))),
      ...reader.push(Buffer.from('yy')),
    ];
    expect(pieces).toEqual([{ time: time(1), text: 'x'.repeat(65_536) }]);
    expect(reader.push(Buffer.from(`y\r\n${time(2)} next\r\n${time(3)} and`))).toEqual([
      { time: time(1), text: `${'x'.repeat(16_384)}yyy` },
      { time: time(2), text: 'next' },
    ]);
    expect(reader.end()).toEqual([{ time: time(3), text: 'and' }]);
  });
});

describe('a time for since', () => {
  it('keeps its nanoseconds, and can be moved by some', () => {
    expect(secondsOf('1970-01-01T00:00:01.000000001Z')).toBe('1.000000001');
    expect(secondsOf('2026-11-25T16:39:58.87071664Z', 1n)).toBe('1795624798.870716641');
    expect(secondsOf('1970-01-01T00:00:02Z', -1n)).toBe('1.999999999');
    expect(secondsOf('1970-01-01T01:00:00.5+01:00')).toBe('0.500000000');
  });
});
