import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RecordEntry, violations } from '../../src/simulator/record.js';
import type { GpuSample } from '../../src/simulator/sample.js';
import { freePort } from '../parts/ports.js';
import { endOf, ensureBuilt, eventually, SimulatorProcess } from './processes.js';

const CSV = '--format=csv,noheader,nounits';
const APPS = ['--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory', CSV];

let folder: string;
let port: number;
let simulator: SimulatorProcess;
const started: ChildProcess[] = [];

beforeAll(async () => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'vramflow-services-'));
  port = await freePort();
  const programs = [
    {
      name: 'comfy',
      vramMb: 4_000,
      peakMb: 20_000,
      bootMs: 3_000,
      stopMs: 500,
      health: { port, path: '/system_stats' },
    },
    { name: 'vidi', vramMb: 4_000, bootMs: 500, stopMs: 100, health: null },
  ];
  writeFileSync(join(folder, 'services.json'), JSON.stringify({ programs, containers: [] }));
  simulator = await startSimulator();
});

afterEach(async () => {
  await fetch(new URL('/faults', simulator.info.admin), { method: 'DELETE' });
  for (const child of started.splice(0)) await endOf(child, 'SIGKILL');
  await eventually(usedMb, (mb) => mb < 1_000);
});

afterAll(async () => {
  await simulator.end();
  rmSync(folder, { recursive: true });
});

const startSimulator = (...args: string[]): Promise<SimulatorProcess> =>
  SimulatorProcess.start('--preset', 'rtx4090', '--speed', '10', '--services', join(folder, 'services.json'), ...args);

async function usedMb(): Promise<number> {
  return (await simulator.get<GpuSample>('/gpus')).cards[0]?.usedMb ?? 0;
}

function start(name: string, env: object = {}) {
  const [command = '', ...args] = simulator.info.service;
  const child = spawn(command, [...args, '--name', name], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  started.push(child);
  const lines: string[] = [];
  const reader = createInterface(child.stdout).on('line', (line) => lines.push(line));
  return {
    child,
    lines,
    async says(text: string): Promise<void> {
      while (!lines.some((line) => line.includes(text))) await once(reader, 'line');
    },
  };
}

const status = (path: string): Promise<number | null> =>
  fetch(`http://127.0.0.1:${port}${path}`).then(
    (answer) => answer.status,
    () => null,
  );

describe('the process of a simulated native service', () => {
  it('boots, answers, works, and ends cleanly on SIGTERM', async () => {
    const before = await usedMb();
    const comfy = start('comfy', { CUDA_VISIBLE_DEVICES: 'GPU-51717e00-0000-4000-8000-000000000001' });
    expect(await status('/system_stats')).toBeNull();
    await comfy.says('ready');
    expect(comfy.lines[0]).toBe('comfy: starting on GPU-51717e00-0000-4000-8000-000000000001');
    expect([await status('/system_stats'), await status('/other')]).toEqual([200, 404]);
    expect(await usedMb()).toBe(before + 4_000);
    expect((await simulator.nvidiaSmi(...APPS)).stdout).toContain(`, ${comfy.child.pid}, comfy, 4000\n`);
    expect(await status('/work')).toBe(200);
    expect(await usedMb()).toBe(before + 20_000);
    comfy.child.kill('SIGTERM');
    expect(await once(comfy.child, 'exit')).toEqual([0, null]);
    expect(comfy.lines.at(-1)).toBe('comfy: stopping');
    await eventually(usedMb, (mb) => mb === before);
  });

  it('holds its memory until the reclaim after a kill -9', async () => {
    const before = await usedMb();
    const vidi = start('vidi');
    await vidi.says('ready');
    await simulator.post('/settings', { reclaimMs: 5_000 });
    await endOf(vidi.child, 'SIGKILL');
    expect(await usedMb()).toBe(before + 4_000);
    await eventually(usedMb, (mb) => mb === before);
    await simulator.post('/settings', { reclaimMs: 700 });
  });

  it('exits with 1 and a line when there is no memory, or no such program', async () => {
    const foreign = await simulator.post<{ pid: number }>('/foreign', { mb: 21_000 });
    const vidi = start('vidi');
    expect(await once(vidi.child, 'exit')).toEqual([1, null]);
    expect(vidi.lines.at(-1)).toMatch(/^vidi: error: CUDA out of memory: \d+ MB asked of GPU-/);
    await fetch(new URL(`/foreign/${foreign.pid}`, simulator.info.admin), { method: 'DELETE' });
    const { entries } = await simulator.get<{ entries: RecordEntry[] }>('/record');
    expect(violations(entries).map(({ kind, holderKind }) => [kind, holderKind])).toEqual([
      ['out-of-memory', 'service'],
    ]);
    const nobody = start('nobody');
    expect(await once(nobody.child, 'exit')).toEqual([1, null]);
    expect(nobody.lines).toEqual([expect.stringContaining('known: comfy, vidi')]);
  });

  it('fails, is unhealthy, does not hear SIGTERM and crashes as the fault board says', async () => {
    await simulator.post('/faults', { name: 'service-fail', service: 'comfy', count: 1 });
    expect(await once(start('comfy').child, 'exit')).toEqual([1, null]);
    const comfy = start('comfy');
    await comfy.says('ready');
    await simulator.post('/faults', { name: 'service-unhealthy', service: 'comfy' });
    expect(await status('/system_stats')).toBe(503);
    await simulator.post('/faults', { name: 'service-deaf', service: 'comfy', count: 1 });
    comfy.child.kill('SIGTERM');
    // Once it was asked, the fault is used up, and the signal with it.
    await eventually(
      () => simulator.get<{ active: { name: string }[] }>('/faults'),
      ({ active }) => active.every(({ name }) => name !== 'service-deaf'),
    );
    expect(await status('/system_stats')).toBe(503);
    await simulator.post('/faults', { name: 'service-crash' });
    if (comfy.child.signalCode === null) await once(comfy.child, 'exit');
    expect(comfy.child.signalCode).toBe('SIGKILL');
    expect(comfy.lines).not.toContain('comfy: stopping');
  });

  it('goes on over a restart of the simulator, with what it held', async () => {
    const state = join(folder, 'state.json');
    const first = await startSimulator('--state-file', state);
    const [command = '', ...args] = first.info.service;
    const child = spawn(command, [...args, '--name', 'vidi'], { stdio: ['ignore', 'pipe', 'inherit'] });
    started.push(child);
    const reader = createInterface(child.stdout);
    for (let line = ''; !line.includes('ready'); ) [line] = (await once(reader, 'line')) as [string];
    await first.end('SIGKILL');
    const again = once(reader, 'line');
    const second = await startSimulator('--state-file', state, '--port', new URL(first.info.admin).port);
    expect((await again)[0]).toBe('vidi: connected again');
    const held = async () => (await second.get<GpuSample>('/gpus')).processes.find(({ pid }) => pid === child.pid)?.mb;
    expect(await held()).toBe(4_000);
    await endOf(child, 'SIGKILL');
    await eventually(held, (mb) => mb === undefined);
    await second.end();
  });
});
