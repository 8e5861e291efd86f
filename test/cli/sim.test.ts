import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../src/client.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';

describe('vramflow sim', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vramflow-sim-'));
  let simulator: RunningSimulator;
  beforeAll(async () => {
    simulator = await startSimulator({ preset: 'rtx4090', speed: 1, seed: 1 });
    writeFileSync(join(folder, 'simulator.json'), JSON.stringify({ endpoints: simulator.info }));
  });
  afterAll(async () => {
    await simulator.stop();
    rmSync(folder, { recursive: true });
  });

  async function sim(...words: string[]) {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const context = { env: { HOME: folder, VRAMFLOW_DATA_DIR: folder }, cwd: folder, stdout, stderr };
    const code = await main(['sim', ...words], context);
    return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
  }

  it('answers in a sentence', async () => {
    expect((await sim('fault', 'set', 'load-slow', 'factor=2', 'count=3')).stdout).toBe(
      'set: load-slow factor=2 3 times\n',
    );
    expect((await sim('fault', 'clear', 'load-slow')).stdout).toBe('cleared load-slow; no fault is set\n');
    expect((await sim('fault', 'clear')).stdout).toBe('cleared all faults; no fault is set\n');
    const added = (await sim('foreign', 'add', '2000')).stdout;
    const pid = /^foreign process (\d+) holds 2000 MB on GPU-/.exec(added)?.[1] ?? '';
    expect((await sim('foreign', 'end', pid)).stdout).toBe(`foreign process ${pid} has ended\n`);
    expect((await sim('ollama', 'stop')).stdout).toBe('Ollama does not run\n');
    expect((await sim('ollama', 'start')).stdout).toBe('Ollama runs\n');
    expect((await sim('speed', '1')).stdout).toBe('the simulated host runs in real time\n');
    expect((await sim('settings', 'reclaimMs=500')).stdout).toMatch(/^reclaimMs=500 /);
  });

  it('shows the host, its faults and its record in tables', async () => {
    expect((await sim()).stdout).toMatch(/^SIMULATED host rtx4090[\s\S]*no fault is set[\s\S]*24564 MB[\s\S]*Xorg/);
    expect((await sim('fault', 'list')).stdout).toMatch(/^no fault is set\n\nfault +takes +what it does\n/);
    expect((await sim('record')).stdout).toMatch(/process-start +.*Xorg/);
  });

  it('says how much of which card a model holds', async () => {
    const load = { method: 'POST', body: JSON.stringify({ model: 'qwen3-vl:8b', stream: false }) };
    expect((await fetch(`${simulator.info.ollama}/api/generate`, load)).status).toBe(200);
    expect((await sim()).stdout).toMatch(/qwen3-vl:8b holds GPU-\w{8} \d{5} MB/);
  });

  it('has all of it under -o json', async () => {
    for (const words of [['state'], ['fault', 'list'], ['record'], ['settings']]) {
      const { code, stdout } = await sim(...words, '-o', 'json');
      expect({ code, isObject: typeof JSON.parse(stdout) }).toEqual({ code: 0, isObject: 'object' });
    }
  });

  it('says what to do about a process that is too large, and about a fault of a model that is not there', async () => {
    expect(await sim('foreign', 'add', '99999')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^error: out of memory: 99999 MB asked of GPU-.*\n {2}Ask for at most \d+ MB, /),
    });
    expect(await sim('fault', 'set', 'load-fail', 'model=qwen3-vl:8')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/unknown model 'qwen3-vl:8'; did you mean 'qwen3-vl:8b'\? known: .*llava:7b/),
    });
    expect((await sim('fault', 'set', 'load-fail', 'gpu=GPU-none', 'model=nomic-embed-text')).code).toBe(2);
    expect((await sim('fault', 'set', 'load-fail', 'model=nomic-embed-text')).code).toBe(0);
    expect((await sim('fault', 'clear')).code).toBe(0);
  });

  it('says what it does not understand', async () => {
    expect(await sim('fuolt')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/"fuolt"[\s\S]*--help/),
    });
    expect(await sim('fault', 'set', 'nope')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/known: ollama-/),
    });
    expect((await sim('--help')).stdout).toMatch(/fault set <name>/);
  });
});
