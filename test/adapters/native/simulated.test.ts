import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { createHttpProbe } from '../../../src/adapters/health/http.js';
import { createLogLineProbe } from '../../../src/adapters/health/logLine.js';
import type { NativeService } from '../../../src/adapters/native/service.js';
import type { GpuSample } from '../../../src/simulator/sample.js';
import { freePort } from '../../parts/ports.js';
import { ensureBuilt, eventually, SimulatorProcess } from '../../simulator/processes.js';
import { driverOf, never } from './service.js';

const GPU = 'GPU-51717e00-0000-4000-8000-000000000001';

let folder: string;
let port: number;
let simulator: SimulatorProcess;

beforeAll(async () => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'vramflow-natives-'));
  port = await freePort();
  const comfyui = {
    name: 'comfyui',
    vramMb: 20_000,
    bootMs: 3_000,
    stopMs: 500,
    health: { port, path: '/system_stats' },
  };
  writeFileSync(join(folder, 'services.json'), JSON.stringify({ programs: [comfyui] }));
  simulator = await SimulatorProcess.start('--speed', '10', '--services', join(folder, 'services.json'));
});

afterAll(async () => {
  await simulator.end();
  rmSync(folder, { recursive: true });
});

function comfyui(): NativeService {
  const [program = '', ...args] = simulator.info.service;
  return { name: 'comfyui', argv: [program, ...args, '--name', 'comfyui'], ports: [port] };
}

/** What nvidia-smi lists of these processes, MB. */
async function heldMb(pids: readonly number[]): Promise<number> {
  const { processes } = await simulator.get<GpuSample>('/gpus');
  return processes.filter(({ pid }) => pids.includes(pid)).reduce((sum, { mb }) => sum + mb, 0);
}

describe.runIf(process.platform === 'linux')('a native service on the simulated host', () => {
  const health = () => createHttpProbe({ url: `http://127.0.0.1:${port}/system_stats` });

  it('holds the memory of its GPU while it runs, is well by its page and its output, and ends in its grace', async () => {
    const one = await driverOf(comfyui());
    const { pids } = await one.start([GPU]);
    expect((await health().check(never())).ok).toBe(false);
    await eventually(
      () => health().check(never()),
      ({ ok }) => ok,
    );
    const lines = (signal: AbortSignal) => one.driver.logs('comfyui', { tail: 100, follow: false, signal });
    const printed = createLogLineProbe({ match: { pattern: 'comfyui: ready on http://.*' }, lines });
    expect(await printed.check(never())).toMatchObject({ ok: true });
    expect(await heldMb(pids)).toBe(20_000);
    expect(await one.stop()).toBe('stopped');
    expect(await one.sight()).toMatchObject({ state: 'absent', lastExit: { code: 0 } });
    await eventually(
      () => heldMb(pids),
      (mb) => mb === 0,
    );
  });

  it('is killed when it does not hear SIGTERM, and its crash is told', async () => {
    const one = await driverOf(comfyui());
    await simulator.post('/faults', { name: 'service-deaf' });
    await one.start([GPU]);
    await one.printed('ready');
    expect(await one.stop(300)).toBe('stopped');
    expect(await one.sight()).toMatchObject({ lastExit: { signal: 'SIGKILL' } });
    await one.start([GPU]);
    await one.printed('ready');
    await simulator.post('/faults', { name: 'service-crash', count: 1 });
    await vi.waitFor(() => expect(one.changes).toMatchObject([{ kind: 'ended', exit: { signal: 'SIGKILL' } }]), 5_000);
  });

  it('exits with 1 where there is no room, and its output says why', async () => {
    // What the test before held comes back later than its process ends.
    const used = async () => (await simulator.get<GpuSample>('/gpus')).cards[0]?.usedMb ?? 0;
    await eventually(used, (mb) => mb < 1_000);
    const { pid } = await simulator.post<{ pid: number }>('/foreign', { mb: 10_000 });
    const one = await driverOf(comfyui());
    await one.start([GPU]);
    await vi.waitFor(() => expect(one.changes).toMatchObject([{ kind: 'ended', exit: { code: 1 } }]), 10_000);
    expect(await one.printed('out of memory')).toContain('comfyui: error: CUDA out of memory');
    await fetch(new URL(`/foreign/${pid}`, simulator.info.admin), { method: 'DELETE' });
  });
});
