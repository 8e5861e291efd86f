import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import { startCommand, startWorker } from '../system/children.js';
import { changesIn, fromNow } from '../system/judge.js';
import { servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const SMALL = 'nomic-embed-text:latest';
const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/** Bad input: a clear error with the remedy, the exit code of cli/exitCodes, and nothing changed. */
describe('bad input', () => {
  let system: System;
  let since: () => readonly RecordEntry[];
  beforeAll(async () => {
    system = await startSystem({
      config: {
        models: { [SMALL]: { vram_mb: 650 }, 'big:70b': { vram_mb: 43_000 } },
        services: await servicesOf({ tts: { vramMb: 500, priority: 50 } }),
        phases: { speech: ['tts'], none: [] },
      },
    });
  });
  beforeEach(() => {
    since = fromNow(system);
  });
  afterAll(() => stopWithServices(system));

  const expectNothingChanged = async () => {
    expect(changesIn(since())).toEqual([]);
    expect(await system.status()).toMatchObject({ execution_mode: 'idle', vlm_state: 'unloaded', clip_device: 'cpu' });
  };

  it.each([
    {
      argv: ['mode', 'recroding'],
      says: [/no mode "recroding"/, /Did you mean recording\?/, /autopilot, idle, recording/],
    },
    { argv: ['mode', 'set', 'autopliot'], says: [/Did you mean autopilot\?/] },
    { argv: ['plan', 'mode', 'nothing-like-it'], says: [/Known: autopilot, idle, recording/] },
    { argv: ['model', 'load', 'qwen3-vl:8'], says: [/no model "qwen3-vl:8"/, /Did you mean qwen3-vl:8b\?/] },
    { argv: ['model', 'unload', 'nomic-embed'], says: [/no model "nomic-embed"/, /nomic-embed-text:latest/] },
    { argv: ['generate', 'qwen3:8b', 'hello'], says: [/no model "qwen3:8b"/, /qwen3-vl:8b/] },
    { argv: ['plan', 'model', 'mystery'], says: [/no model "mystery"/, /Known: /] },
    { argv: ['clip', 'move', 'gpu'], says: [/cpu, cuda/] },
    { argv: ['mode', 'set', 'idle', 'recording'], says: [/one mode at a time/] },
    { argv: ['events', '--lines', 'many'], says: [/whole number/] },
    { argv: ['statsu'], says: [/Did you mean status\?/] },
    { argv: ['status', '-o', 'xml'], says: [/text, json/] },
    { argv: ['embed', 'image', 'not-there.png'], says: [/not-there\.png cannot be read/] },
  ])('$argv: a usage error that says what is known', async ({ argv, says }) => {
    const { code, stdout, stderr } = await system.cli(...argv);
    expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' });
    for (const words of says) expect(stderr).toMatch(words);
    await expectNothingChanged();
  });

  it('a model larger than every GPU: refused with the figures and the remedy', async () => {
    const { code, stdout } = await system.cli('model', 'load', 'big:70b');
    expect(code).toBe(EXIT.refused);
    expect(stdout).toMatch(/refused: .*43,\d+ MB|refused: .*24,564 MB/);
    expect(stdout).toMatch(/smaller model/);
    await expectNothingChanged();
  });

  it('a broken configuration: file, line, column, key and remedy, on every way in', async () => {
    const file = join(system.folder, 'broken.yaml');
    writeFileSync(file, 'vlm_model: qwen3-vl:8b\nidle_timeout_second: 3\nload_timeout_seconds: soon\n');
    for (const argv of [['status'], ['mode', 'recording'], ['config', 'validate']]) {
      const { code, stdout, stderr } = await system.cli(...argv, '--config', file);
      expect(code).toBe(EXIT.usage);
      expect(stdout + stderr).toMatch(/broken\.yaml:2:1/);
      expect(stdout + stderr).toMatch(/idle_timeout_seconds/);
      expect(stdout + stderr).toMatch(/broken\.yaml:3:\d+/);
    }
    const worker = startWorker('agent', { ...system.env, VRAMFLOW_CONFIG: file });
    expect(await worker.ended).toBe(EXIT.usage);
    expect(worker.log()).toMatch(/broken\.yaml:2:1/);
    await expectNothingChanged();
  });

  it('a configuration that contradicts itself, and one that is no YAML', async () => {
    const file = join(system.folder, 'odd.yaml');
    writeFileSync(file, 'modes:\n  recording:\n    models:\n      lava:7b: gpu\n');
    expect(await system.cli('config', 'validate', file)).toMatchObject({
      code: EXIT.usage,
      stdout: expect.stringMatching(/odd\.yaml:4:\d+.*lava:7b/s),
    });
    writeFileSync(file, 'modes: [\n');
    expect((await system.cli('config', 'validate', file)).code).toBe(EXIT.usage);
  });

  it("a port in use for the agent: says so, and which key to change; the host's own agent goes on", async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const other = mkdtempSync(join(system.folder, 'other-'));
    const config = join(other, 'vramflow.yaml');
    writeFileSync(config, `host: ${system.host}-other\ndata_dir: ${other}\n`);
    const worker = startWorker('agent', {
      ...system.env,
      VRAMFLOW_CONFIG: config,
      VRAMFLOW_AGENT_LISTEN: `127.0.0.1:${port}`,
    });
    expect(await worker.ended).toBe(EXIT.unavailable);
    expect(worker.log()).toMatch(/EADDRINUSE.*\n.*agent\.listen/);
    taken.close();
    expect((await system.status()).host).toBe(system.host);
  });

  it('Temporal that cannot be reached: exit code 4 with the address and the remedy', async () => {
    const env = { VRAMFLOW_TEMPORAL_ADDRESS: '127.0.0.1:1' };
    const { code, stderr } = await system.cliWith({ env }, 'mode', 'recording');
    expect(code).toBe(EXIT.unavailable);
    expect(stderr).toMatch(/Temporal does not answer at 127\.0\.0\.1:1/);
    expect(stderr).toMatch(/temporal\.address/);
    // What needs no Temporal works.
    expect((await system.cliWith({ env }, 'status')).code).toBe(EXIT.ok);
    expect((await system.cliWith({ env }, 'plan', 'mode', 'recording')).code).toBe(EXIT.ok);
    await expectNothingChanged();
  });

  it('a token file that is missing, empty or wrong: exit code 4, the file and the remedy', async () => {
    const file = join(system.folder, 'token');
    const withFile = () => system.cliWith({}, '--config', join(system.folder, 'token.yaml'), 'status');
    const original = readFileSync(join(system.folder, 'vramflow.yaml'), 'utf8');
    writeFileSync(join(system.folder, 'token.yaml'), `${original}agent:\n  token_file: ${file}\n`);
    const missing = await withFile();
    expect(missing).toMatchObject({ code: EXIT.unavailable, stdout: '' });
    expect(missing.stderr).toMatch(/there is no token file .*token/);
    writeFileSync(file, 'short\n');
    expect(await withFile()).toMatchObject({ code: EXIT.unavailable, stderr: expect.stringMatching(/holds no token/) });
    writeFileSync(file, `${'0'.repeat(64)}\n`);
    expect(await withFile()).toMatchObject({
      code: EXIT.unavailable,
      stderr: expect.stringMatching(/does not take the token of .*token[\s\S]*token_file/),
    });
    rmSync(file);
    mkdirSync(file);
    expect(await withFile()).toMatchObject({ code: EXIT.unavailable, stderr: expect.stringMatching(/cannot be read/) });
    await expectNothingChanged();
  });

  it('no agent: exit code 4 and what to start', async () => {
    const env = { VRAMFLOW_DATA_DIR: join(system.folder, 'nobody'), VRAMFLOW_AGENT_LISTEN: '127.0.0.1:1' };
    const { code, stderr } = await system.cliWith({ env }, 'status');
    expect(code).toBe(EXIT.unavailable);
    expect(stderr).toMatch(/vramflow up/);
  });

  it('no control worker: doctor says so, and what to start', async () => {
    // A namespace that every server has, and where nobody works for vramflow.
    const env = { VRAMFLOW_TEMPORAL_NAMESPACE: 'temporal-system' };
    const { code, stdout } = await system.cliWith({ env }, 'doctor');
    expect(code).toBe(EXIT.unavailable);
    expect(stdout).toMatch(/^broken +control +No control worker .*vramflow up/m);
    expect((await system.cli('doctor')).stdout).toMatch(/^ok +control /m);
  });

  it('-o json of every command parses, with the exit code of its text form', async () => {
    const image = join(system.folder, 'one.png');
    writeFileSync(image, PNG);
    const commands: [string[], number][] = [
      [['status'], 0],
      [['doctor'], 0],
      [['mode'], 0],
      [['model', 'ps'], 0],
      [['plan', 'mode', 'recording'], 0],
      [['plan', 'model', 'big:70b'], 3],
      [['model', 'load', 'big:70b'], 3],
      [['model', 'load', SMALL, '--no-wait'], 0],
      [['model', 'load', SMALL], 0],
      [['model', 'unload', SMALL], 0],
      [['mode', 'set', 'autopilot'], 0],
      [['clip', 'move', 'cpu'], 0],
      [['mode', 'idle'], 0],
      [['embed', 'text', 'a button'], 0],
      [['embed', 'image', image], 0],
      [['generate', 'vlm', 'hello'], 0],
      [['model', 'unload', 'vlm'], 0],
      [['service', 'list'], 0],
      [['service', 'start', 'tts', '--no-wait'], 0],
      [['service', 'start', 'tts'], 0],
      [['service', 'restart', 'tts'], 0],
      [['service', 'stop', 'tts'], 0],
      [['phase', 'list'], 0],
      [['plan', 'phase', 'speech'], 0],
      [['plan', 'service', 'start', 'tts'], 0],
      [['phase', 'prepare', 'speech'], 0],
      [['phase', 'status'], 0],
      [['phase', 'prepare', 'none'], 0],
      [['lease', 'acquire', '--id', 'one', '--mb', '100'], 0],
      [['lease', 'acquire', '--mb', '90000'], 3],
      [['lease', 'renew', 'one'], 0],
      [['lease', 'list'], 0],
      [['lease', 'release', 'one'], 0],
      [['gpu', 'ps'], 0],
      [['can-fit', '100'], 0],
      [['can-fit', '90000'], 3],
      [['history'], 0],
      [['config', 'show'], 0],
      [['config', 'show', '--origin'], 0],
      [['config', 'validate'], 0],
      [['config', 'path'], 0],
      [['config', 'schema'], 0],
    ];
    for (const [argv, code] of commands) {
      const result = await system.cli(...argv, '-o', 'json');
      expect({ argv, code: result.code, stderr: code === result.code ? '' : result.stderr }).toEqual({
        argv,
        code,
        stderr: '',
      });
      expect(() => void JSON.parse(result.stdout), argv.join(' ')).not.toThrow();
    }
    // A stream: one document a line.
    const events = await system.cli('events', '-n', '5', '-o', 'json');
    const lines = events.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { sequence: number });
    expect(lines).toHaveLength(5);
    expect(lines.every(({ sequence }) => sequence > 0)).toBe(true);
    const ofService = await system.cli('service', 'logs', 'tts', '--tail', '2', '-o', 'json');
    for (const line of ofService.stdout.trim().split('\n')) {
      expect(JSON.parse(line)).toEqual({ line: expect.stringMatching(/^tts: /) });
    }
  }, 180_000);

  it('-o json of what goes on until Ctrl-C is one document a line: events --follow, and the log of worker', async () => {
    const following = startCommand(system.env, 'events', '--follow', '-n', '1', '-o', 'json');
    onTestFinished(async () => void (await following.interrupt()));
    const next = async () => JSON.parse(await following.next()) as JournalEntry;
    let entry = await next();
    const seen = [entry.sequence];
    await system.cli('mode', 'set', 'recording');
    do {
      entry = await next();
      seen.push(entry.sequence);
    } while (entry.type !== 'mode_changed');
    expect(seen).toEqual(seen.map((_, at) => (seen[0] ?? 0) + at));
    await system.cli('mode', 'set', 'idle');

    const worker = startCommand(system.env, 'worker', '--role', 'control', '-o', 'json');
    onTestFinished(async () => void (await worker.interrupt()));
    expect(JSON.parse(await worker.nextSaid())).toMatchObject({ level: expect.anything(), msg: expect.any(String) });
  }, 120_000);
});
