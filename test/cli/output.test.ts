import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { suggest } from '../../src/cli/nearest.js';
import { createOutput, type Format, table } from '../../src/cli/output.js';

class Terminal extends Writable {
  written = '';
  constructor(readonly isTTY = false) {
    super({
      decodeStrings: false,
      write: (chunk: string, _encoding, done) => {
        this.written += chunk;
        done();
      },
    });
  }
}

function open(format: Format, { isTTY = false, env = {} }: { isTTY?: boolean; env?: NodeJS.ProcessEnv } = {}) {
  const stdout = new Terminal(isTTY);
  const stderr = new Terminal(isTTY);
  return { stdout, stderr, output: createOutput({ env, stdout, stderr }, format) };
}

describe('output', () => {
  it('sends data to stdout and talk to stderr', () => {
    const { output, stdout, stderr } = open('text');
    output.talk('loading');
    output.data({ mode: 'idle' }, ({ mode }) => `mode ${mode}`);
    expect(stdout.written).toBe('mode idle\n');
    expect(stderr.written).toBe('loading\n');
  });

  it('prints one JSON document, and one a line for items', () => {
    const { output, stdout } = open('json');
    output.data({ mode: 'idle' }, () => 'text');
    expect(stdout.written).toBe('{\n  "mode": "idle"\n}\n');
    stdout.written = '';
    output.item({ n: 1 }, () => 'text');
    output.item({ n: 2 }, () => 'text');
    expect(stdout.written).toBe('{"n":1}\n{"n":2}\n');
  });

  const ESCAPE = '\u001b[';
  it.each([
    ['a terminal', { isTTY: true }, true],
    ['a pipe', { isTTY: false }, false],
    ['a terminal with NO_COLOR', { isTTY: true, env: { NO_COLOR: '1' } }, false],
    ['a terminal with an empty NO_COLOR', { isTTY: true, env: { NO_COLOR: '' } }, true],
    ['a dumb terminal', { isTTY: true, env: { TERM: 'dumb' } }, false],
  ])('on %s colours are %s', (_name, terminal, coloured) => {
    const { output, stdout, stderr } = open('text', terminal);
    output.data(null, (_value, style) => style.red('hot'));
    output.talk((style) => style.green('cool'));
    expect(stdout.written.includes(ESCAPE)).toBe(coloured);
    expect(stderr.written.includes(ESCAPE)).toBe(coloured);
  });
});

describe('table', () => {
  it('aligns columns, figures to the right, colours not counted', () => {
    const red = (text: string) => `\u001b[31m${text}\u001b[39m`;
    expect(
      table(
        [{ title: 'NAME' }, { title: 'MB', align: 'right' }, { title: 'STATE' }],
        [
          ['qwen3-vl:8b', '10752', red('loaded')],
          ['clip', '500', ''],
        ],
      ),
    ).toBe(`NAME            MB  STATE\nqwen3-vl:8b  10752  ${red('loaded')}\nclip           500`);
  });

  it('with no rows is its titles', () => {
    expect(table([{ title: 'A' }, { title: 'B' }], [])).toBe('A  B');
  });
});

describe('suggest', () => {
  it('names the nearest and all', () => {
    expect(suggest('recordign', ['recording', 'idle'])).toBe('Did you mean recording? Known: idle, recording.');
    expect(suggest('zebra', ['recording', 'idle'])).toBe('Known: idle, recording.');
    expect(suggest('zebra', [])).toBe('None are known.');
  });
});
