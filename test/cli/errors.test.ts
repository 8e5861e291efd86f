import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it, onTestFinished } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import { reportError } from '../../src/cli/reportError.js';
import { main } from '../../src/client.js';

const run = (...argv: string[]) => runWith({}, ...argv);

/** Runs a command line in a folder where nothing of vramflow runs. */
async function runWith(more: NodeJS.ProcessEnv, ...argv: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'vramflow-cli-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'broken.yaml'), 'vlm_modl: x\n');
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const env = { HOME: folder, VRAMFLOW_DATA_DIR: folder, VRAMFLOW_AGENT_LISTEN: '127.0.0.1:1', ...more };
  const code = await main(argv, { env, cwd: folder, stdout, stderr });
  return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

describe('an error under -o json', () => {
  it.each([
    { argv: ['statsu'], exitCode: EXIT.usage, code: 'bad-input', says: /statsu/, remedy: /status/ },
    {
      argv: ['mode', 'idle', '--no-wiat'],
      exitCode: EXIT.usage,
      code: 'bad-input',
      says: /--no-wiat/,
      remedy: /--no-wait/,
    },
    {
      argv: ['can-fit', 'much'],
      exitCode: EXIT.usage,
      code: 'bad-input',
      says: /'much'.*as a number/,
      remedy: /--help/,
    },
    { argv: ['can-fit', ''], exitCode: EXIT.usage, code: 'bad-input', says: /as a number/, remedy: /--help/ },
    {
      argv: ['plan', 'mode'],
      exitCode: EXIT.usage,
      code: 'bad-input',
      says: /missing required argument 'mode'/,
      remedy: /--help/,
    },
    { argv: ['model'], exitCode: EXIT.usage, code: 'bad-input', says: /a command is missing/, remedy: /--help/ },
    { argv: [], exitCode: EXIT.usage, code: 'bad-input', says: /a command is missing/, remedy: /--help/ },
    { argv: ['mode', 'recroding'], exitCode: EXIT.usage, code: 'bad-input', says: /recroding/, remedy: /recording/ },
    // What every object has is no mode and no model.
    { argv: ['mode', 'constructor'], exitCode: EXIT.usage, code: 'bad-input', says: /no mode/, remedy: /Known/ },
    { argv: ['plan', 'mode', 'toString'], exitCode: EXIT.usage, code: 'bad-input', says: /no mode/, remedy: /Known/ },
    { argv: ['status'], exitCode: EXIT.unavailable, code: 'unavailable', says: /token/, remedy: null },
    { argv: ['sim'], exitCode: EXIT.unavailable, code: 'unavailable', says: /simulated host/, remedy: /--simulate/ },
    {
      argv: ['status', '--config', 'broken.yaml'],
      exitCode: EXIT.usage,
      code: 'bad-configuration',
      says: /broken\.yaml:1:1 vlm_modl/,
      remedy: null,
    },
  ])('$argv: one object on stderr, nothing on stdout', async ({ argv, exitCode, code, says, remedy }) => {
    for (const json of [['-o', 'json'], ['--output=json']]) {
      const result = await run(...argv, ...json);
      expect(result).toMatchObject({ code: exitCode, stdout: '' });
      expect(JSON.parse(result.stderr)).toEqual({
        error: {
          code,
          message: expect.stringMatching(says),
          remedy: remedy === null ? null : expect.stringMatching(remedy),
          exitCode,
        },
      });
      expect(result.stderr.trimEnd()).not.toContain('\n');
    }
    const text = await run(...argv);
    expect(text).toMatchObject({ code: exitCode, stdout: '' });
    expect(text.stderr).not.toContain('{"error"');
    if (remedy !== null) expect(text.stderr).toMatch(remedy);
    // Said once.
    expect([...text.stderr.matchAll(/^error: /gm)]).toHaveLength(/a command is missing/.test(String(says)) ? 0 : 1);
  });

  it.each([
    [['--set', 'status', 'host=other'], '--set takes the key=value right after it: vramflow status --set host=other'],
    [['status', 'host=other'], 'A value of the configuration stands after --set: --set host=other'],
    [['mode', '--origin'], '--origin belongs to: config show'],
  ])('%j says where the word belongs', async (argv, says) => {
    const text = await run(...argv);
    expect(text).toMatchObject({ code: EXIT.usage, stdout: '' });
    expect(text.stderr.split('\n').map((line) => line.trim())).toContain(says);
    const { error } = JSON.parse((await run(...argv, '-o', 'json')).stderr);
    expect(error).toMatchObject({ code: 'bad-input', remedy: says });
  });

  it('comes after each warning of the configuration once', async () => {
    for (const argv of [
      ['mode', 'idle'],
      ['plan', 'mode', 'idle'],
      ['plan', 'model', 'vlm'],
      ['plan', 'service', 'start', 'tts'],
    ]) {
      const { stderr } = await runWith({ VRAMFLOW_ZEBRA: '1', VRAMFLOW_TEMPORAL_ADDRESS: '127.0.0.1:1' }, ...argv);
      expect([...stderr.matchAll(/warning: /g)]).toHaveLength(1);
    }
  });

  it.each([
    ['EADDRINUSE', 'port-in-use'],
    ['EACCES', 'unavailable'],
  ])('of a port that cannot be had (%s) names both keys', (code, told) => {
    const stderr = new PassThrough();
    const error = Object.assign(new Error(`listen ${code} 127.0.0.1:80`), { code, syscall: 'listen' });
    expect(reportError(error, 'json', stderr)).toBe(EXIT.unavailable);
    expect(JSON.parse(String(stderr.read()))).toMatchObject({
      error: {
        code: told,
        message: expect.stringContaining(':80'),
        remedy: expect.stringMatching(/agent\..*gateway\./),
      },
    });
  });

  it('also when nobody expected it', () => {
    const stderr = new PassThrough();
    expect(reportError(new TypeError('x is no y'), 'json', stderr)).toBe(EXIT.unexpected);
    expect(JSON.parse(String(stderr.read()))).toMatchObject({
      error: { code: 'internal', message: 'x is no y', exitCode: EXIT.unexpected },
    });
  });

  it('does not touch help, nor a prompt that speaks of json', async () => {
    expect(await run('model', '--help', '-o', 'json')).toMatchObject({ code: 0, stderr: '' });
    expect((await run('generate', 'nobody', 'answer with -o json')).stderr).toMatch(/^error: /);
    expect((await run('lease', 'run', '--', 'nobody', '-o', 'json')).stderr).toMatch(/^error: /);
  });
});
