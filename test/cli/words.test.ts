import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { describe, expect, it, onTestFinished } from 'vitest';
import { describeDuration, duration } from '../../src/cli/duration.js';
import { EXIT } from '../../src/cli/exitCodes.js';
import { suggest } from '../../src/cli/nearest.js';
import { findCommand } from '../../src/cli/program.js';

describe('a duration', () => {
  it.each([
    ['90', 90_000, '90 s'],
    ['30s', 30_000, '30 s'],
    ['10m', 600_000, '10 min'],
    ['1.5h', 5_400_000, '90 min'],
    ['2h', 7_200_000, '2 h'],
    ['500ms', 500, '0.5 s'],
    ['0', 0, '0 s'],
  ])('%s is %i ms, told as %s', (written, ms, told) => {
    expect(duration(written)).toBe(ms);
    expect(describeDuration(ms)).toBe(told);
  });

  it.each(['', 'soon', '-1', '5 weeks', '10d', '99999h', 's'])('"%s" is none', (written) => {
    expect(() => duration(written)).toThrow(InvalidArgumentError);
  });
});

describe('the program of a command', () => {
  const folder = () => {
    const made = mkdtempSync(join(tmpdir(), 'vramflow-program-'));
    onTestFinished(() => rmSync(made, { recursive: true }));
    writeFileSync(join(made, 'runs'), '#!/bin/sh\n');
    chmodSync(join(made, 'runs'), 0o755);
    writeFileSync(join(made, 'text'), 'no program');
    return made;
  };

  it('is found on the PATH, or where its path says', () => {
    const cwd = folder();
    expect(findCommand('runs', { cwd: '/', env: { PATH: `/nowhere:${cwd}` } })).toBe(join(cwd, 'runs'));
    expect(findCommand('./runs', { cwd, env: {} })).toBe(join(cwd, 'runs'));
  });

  it.each([
    { name: 'nobody', exitCode: EXIT.notFound, message: 'The program nobody is not found on the PATH.' },
    { name: './nobody', exitCode: EXIT.notFound, message: 'The program ./nobody is not found.' },
    { name: 'text', exitCode: EXIT.notExecutable, message: expect.stringMatching(/text is not executable\.$/) },
    { name: './text', exitCode: EXIT.notExecutable, message: expect.stringMatching(/text is not executable\.$/) },
    { name: './', exitCode: EXIT.notExecutable, message: expect.stringMatching(/is not executable\.$/) },
  ])('$name cannot be run: $exitCode', ({ name, exitCode, message }) => {
    const cwd = folder();
    const failure = (() => {
      try {
        return findCommand(name, { cwd, env: { PATH: cwd } });
      } catch (error) {
        return error;
      }
    })();
    expect(failure).toMatchObject({ exitCode, message, remedy: expect.stringMatching(/\S/) });
  });
});

describe('suggest', () => {
  it('takes no number for another', () => {
    expect(suggest('5', ['2', '3', '4'])).toBe('Known: 2, 3, 4.');
    expect(suggest('fase1', ['phase1', '2'])).toMatch(/Did you mean phase1\?/);
  });
});
