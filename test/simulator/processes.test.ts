import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { runSimulatorCommand } from '../../src/simulator/cli.js';
import { type RecordEntry, violations } from '../../src/simulator/record.js';
import type { GpuSample } from '../../src/simulator/sample.js';
import { ask, endOf, ensureBuilt, eventually, SimulatorProcess } from './processes.js';

const CSV = '--format=csv,noheader,nounits';
const APPS = ['--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory', CSV];

let folder: string;
let simulator: SimulatorProcess;

beforeAll(async () => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'vramflow-simulator-'));
  simulator = await SimulatorProcess.start('--preset', 'rtx4090', '--speed', '10');
});

afterEach(async () => {
  await fetch(new URL('/faults', simulator.info.admin), { method: 'DELETE' });
});

afterAll(async () => {
  await simulator.end();
  rmSync(folder, { recursive: true });
});

async function usedMb(): Promise<number> {
  return (await simulator.get<GpuSample>('/gpus')).cards[0]?.usedMb ?? 0;
}

describe('nvidia-smi', () => {
  it('lists the GPUs and answers a query once', async () => {
    expect(await simulator.nvidiaSmi('-L')).toEqual({
      stdout: 'GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-51717e00-0000-4000-8000-000000000001)\n',
      stderr: '',
      code: 0,
    });
    const { stdout } = await simulator.nvidiaSmi(
      '--query-gpu=memory.total,memory.used,memory.free,memory.reserved',
      CSV,
    );
    const [total = 0, used = 0, free = 0, reserved = 0] = stdout.trim().split(', ').map(Number);
    expect([total, used + free + reserved]).toEqual([24_564, 24_564]);
  });

  it('shows compute processes, not those of the desktop', async () => {
    expect((await simulator.nvidiaSmi(...APPS)).stdout).toBe('');
    const { pid } = await simulator.post<{ pid: number }>('/foreign', {
      mb: 900,
      kind: 'compute',
      name: '/usr/bin/game',
    });
    await simulator.post('/foreign', { mb: 100, kind: 'graphics' });
    expect((await simulator.nvidiaSmi(...APPS)).stdout).toContain(`, ${pid}, /usr/bin/game, 900\n`);
  });

  it('follows what happens in a loop, and hangs until killed', async () => {
    const smi = simulator.startNvidiaSmi('--query-gpu=memory.used,utilization.gpu', CSV, '-lms', '20');
    const lines = createInterface({ input: smi.stdout });
    expect((await once(lines, 'line'))[0]).toMatch(/^\d+, 0$/);
    await simulator.post('/faults', { name: 'smi-na' });
    await once(lines, 'line').then(() => once(lines, 'line'));
    expect((await once(lines, 'line'))[0]).toBe('[N/A], [N/A]');
    await simulator.post('/faults', { name: 'smi-hang' });
    const silence = (): Promise<string> => Promise.race([once(lines, 'line').then(() => 'line'), delay(200, 'silent')]);
    await eventually(silence, (heard) => heard === 'silent');
    smi.kill('SIGTERM');
    expect(await Promise.race([once(smi, 'exit').then(() => 'ended'), delay(200, 'alive')])).toBe('alive');
    await endOf(smi, 'SIGKILL');
  });

  it('says that no driver answers when the host is away', async () => {
    const gone = await SimulatorProcess.start('--preset', 'laptop-6gb');
    const smi = gone.startNvidiaSmi('--query-gpu=fan.speed', CSV, '-lms', '50');
    const lines = createInterface({ input: smi.stdout });
    expect((await once(lines, 'line'))[0]).toBe('[N/A]');
    const exit = once(smi, 'exit');
    await gone.end();
    expect((await exit)[0]).toBe(9);
    const { stdout, code } = await gone.nvidiaSmi('-L');
    expect([code, stdout]).toEqual([9, expect.stringContaining("couldn't communicate with the NVIDIA driver")]);
  });
});

describe('an embedder', () => {
  async function embed(socket: string, path: string, body: object): Promise<number[][]> {
    const answer = await ask(socket, 'POST', path, body);
    if (answer === null) throw new Error(`nobody listens at ${socket}`);
    return (answer.body as { embeddings: number[][] }).embeddings;
  }

  it('holds memory on cuda until its process is killed, and agrees with one on the cpu', async () => {
    const before = await usedMb();
    const sockets = { cuda: join(folder, 'cuda.sock'), cpu: join(folder, 'cpu.sock') };
    const cuda = simulator.startEmbedder(sockets.cuda, 'cuda');
    const cpu = simulator.startEmbedder(sockets.cpu, 'cpu');
    for (const [device, socket] of Object.entries(sockets)) {
      const healthy = await eventually(
        () => ask(socket, 'GET', '/health'),
        (answer) => answer?.status === 200,
      );
      expect(healthy?.body).toMatchObject({ state: 'ready', device, provider: device, dimension: 512, error: null });
    }
    expect(await usedMb()).toBe(before + 500);
    expect((await simulator.nvidiaSmi(...APPS)).stdout).toContain(`, ${cuda.pid}, ${process.execPath}, 500\n`);

    const texts = ['a red button', 'a blue field'];
    const [onCuda, onCpu] = await Promise.all(
      [sockets.cuda, sockets.cpu].map((socket) => embed(socket, '/embed/text', { texts })),
    );
    expect(onCuda).toEqual(onCpu);
    for (const vector of onCuda ?? []) expect(Math.hypot(...vector)).toBeCloseTo(1, 9);
    expect(onCuda?.[0]).not.toEqual(onCuda?.[1]);

    await simulator.post('/faults', { name: 'embedder-wrong', kind: 'not-finite', device: 'cuda' });
    const [wrong] = await embed(sockets.cuda, '/embed/text', { texts });
    expect(wrong?.every(Number.isFinite)).toBe(false);
    const bad = await ask(sockets.cpu, 'POST', '/embed/image', { images: ['bm8gaW1hZ2U='] });
    expect(bad).toMatchObject({ status: 400, body: { error: { code: 'bad-input' } } });

    await endOf(cuda, 'SIGKILL');
    await eventually(usedMb, (mb) => mb === before);
    const shutdown = await ask(sockets.cpu, 'POST', '/shutdown');
    expect(shutdown?.status).toBe(202);
    if (cpu.exitCode === null) expect((await once(cpu, 'exit'))[0]).toBe(0);
  });

  it('reports a failed start and exits with an error, without another device in its place', async () => {
    await simulator.post('/settings', { embedderMb: 30_000 });
    const socket = join(folder, 'big.sock');
    const embedder = simulator.startEmbedder(socket, 'cuda');
    const failed = await eventually(
      () => ask(socket, 'GET', '/health'),
      (a) => JSON.stringify(a).includes('failed'),
    );
    expect(failed).toMatchObject({ status: 503, body: { state: 'failed', device: 'cuda' } });
    expect(failed?.body).toHaveProperty('error', expect.stringContaining('out of memory'));
    expect((await once(embedder, 'exit'))[0]).toBe(1);
    await simulator.post('/settings', { embedderMb: 500 });
  });
});

describe('a restart with a state file', () => {
  it('goes on with what was resident after a kill -9, on the same ports', async () => {
    const state = join(folder, 'state.json');
    const first = await SimulatorProcess.start('--preset', 'rtx4090', '--speed', '10', '--state-file', state);
    const socket = join(folder, 'kept.sock');
    const embedder = first.startEmbedder(socket, 'cuda');
    await eventually(
      () => ask(socket, 'GET', '/health'),
      (answer) => answer?.status === 200,
    );
    await fetch(new URL('/api/generate', first.info.ollama), {
      method: 'POST',
      body: '{"model":"llava:7b","keep_alive":"1h"}',
    });
    const before = await first.get<GpuSample>('/gpus');
    await first.end('SIGKILL');

    const ports = ['--port', new URL(first.info.admin).port, '--port-ollama', new URL(first.info.ollama).port];
    const second = await SimulatorProcess.start(
      '--preset',
      'rtx4090',
      '--speed',
      '10',
      '--state-file',
      state,
      ...ports,
    );
    const after = await second.get<GpuSample>('/gpus');
    expect(after.processes).toEqual(before.processes);
    expect(after.cards[0]?.usedMb).toBe(before.cards[0]?.usedMb);
    const ps = (await (await fetch(new URL('/api/ps', second.info.ollama))).json()) as { models: { name: string }[] };
    expect(ps.models.map(({ name }) => name)).toEqual(['llava:7b']);
    await eventually(
      () => second.get<{ entries: RecordEntry[] }>('/record'),
      ({ entries }) => violations(entries).length === 0,
    );

    await endOf(embedder, 'SIGKILL');
    const kept = (before.cards[0]?.usedMb ?? 0) - 500;
    await eventually(
      () => second.get<GpuSample>('/gpus'),
      ({ cards }) => cards[0]?.usedMb === kept,
    );
    await second.end();
  });
});

describe('the command line', () => {
  async function run(...words: string[]): Promise<{ code: number; out: string; err: string }> {
    const texts = { out: '', err: '' };
    const code = await runSimulatorCommand(words, {
      stdout: (text) => (texts.out += text),
      stderr: (text) => (texts.err += text),
    });
    return { code, ...texts };
  }

  it('sets and clears faults, and says what is known instead of what is not', async () => {
    const { admin } = simulator.info;
    expect(await run(admin, 'fault', 'set', 'load-slow', 'factor=2')).toMatchObject({ code: 0 });
    expect((await run(admin, 'state')).out).toContain('"factor": 2');
    expect(await run(admin, 'fault', 'clear')).toMatchObject({ code: 0 });
    expect(await run(admin, 'fault', 'set', 'lode-slow')).toMatchObject({
      code: 1,
      err: expect.stringContaining('known: ollama-'),
    });
    expect(await run(admin, 'fault', 'explode')).toMatchObject({ code: 2, err: expect.stringContaining('usage') });
    expect(await run('http://127.0.0.1:1', 'state')).toMatchObject({ code: 3 });
  });

  it('adds, resizes and ends foreign processes', async () => {
    const { admin } = simulator.info;
    const before = await usedMb();
    const added = JSON.parse((await run(admin, 'foreign', 'add', '700', 'name=game')).out) as { pid: number };
    expect(await usedMb()).toBe(before + 700);
    await run(admin, 'foreign', 'resize', String(added.pid), '900');
    expect(await usedMb()).toBe(before + 900);
    await run(admin, 'foreign', 'end', String(added.pid));
    await eventually(usedMb, (mb) => mb === before);
    expect(await run(admin, 'foreign', 'add', '99999')).toMatchObject({
      code: 1,
      err: expect.stringContaining('out of memory'),
    });
  });
});
