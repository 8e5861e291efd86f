import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Status } from '../../src/contracts/status.js';
import type { FaultName } from '../../src/simulator/faults.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { changesIn, expectNoViolation, fromNow, heldMb, loadedModels, type Printed } from '../system/judge.js';
import { type CliResult, type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
/** The fields of M14, in their order. */
const M14 = [
  'execution_mode',
  'vlm_state',
  'vlm_model',
  'clip_device',
  'vram',
  'idle_timeout_seconds',
  'last_vlm_request',
  'degraded_mode',
  'degraded_reason',
];
const VRAM = ['total_mb', 'used_mb', 'free_mb', 'gpu_name', 'gpu_utilization_percent'];
/** M16: retried every 30 s; Ollama is looked at once a second. */
const RECOVERY_MS = 32_000;

let temporal: TestServer;
beforeAll(async () => {
  temporal = await startTemporal();
});
afterAll(() => temporal.stop());

/** M14: complete whatever happens; `vram` is null only while degraded. */
async function completeStatus(system: System): Promise<Status> {
  const status = await system.json<Status>(['status']);
  expect(Object.keys(status).slice(0, M14.length)).toEqual(M14);
  if (status.vram === null) expect(status.degraded_mode).toBe(true);
  else expect(Object.keys(status.vram)).toEqual(VRAM);
  expect(status.degraded_reason === null).toBe(!status.degraded_mode);
  expect(['cpu', 'cuda']).toContain(status.clip_device);
  return status;
}

/** Refused, and said why on the way that a person reads. */
function expectRefused(result: CliResult, ...words: RegExp[]): void {
  expect({ code: result.code, stderr: result.stderr }).toMatchObject({ code: 3 });
  for (const word of words) expect(result.stdout + result.stderr).toMatch(word);
}

describe('a host whose Ollama or GPU reader goes away', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({ temporal });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await system.until('all is well again', (status) => !status.degraded_mode, RECOVERY_MS);
  });
  afterAll(async () => {
    expectNoViolation(system);
    await system.stop();
  });

  it('M14: status has all the fields from the start', async () => {
    const status = await completeStatus(system);
    expect(status).toMatchObject({
      execution_mode: 'idle',
      vlm_state: 'unloaded',
      vlm_model: VLM,
      clip_device: 'cpu',
      idle_timeout_seconds: 300,
      last_vlm_request: null,
      degraded_mode: false,
      degraded_reason: null,
    });
    expect(status.vram).toMatchObject({ total_mb: 24_564, gpu_name: expect.stringContaining('RTX 4090') });
  });

  it('M16: connections refused: degraded, CLIP goes to the CPU and works, VLM operations fail clearly, all recovers', async () => {
    await system.json(['mode', 'autopilot']);
    expect((await completeStatus(system)).clip_device).toBe('cuda');
    system.simulator.faults.set('ollama-unavailable');
    // The first call that fails may be one that was under way.
    await system.until('degraded for that reason', ({ degraded_reason }) =>
      /Ollama is not available: No Ollama server listens at/.test(degraded_reason ?? ''),
    );
    await completeStatus(system);
    await system.until('CLIP on the CPU', (status) => status.clip_device === 'cpu');
    await system.until('the move has ended', (status) => status.turns.length === 0);
    expect(heldMb(system, 'embedder')).toBe(0);
    expect(await system.json(['embed', 'text', 'a red button'])).toMatchObject({ device: 'cpu', dimension: 512 });

    const since = fromNow(system);
    expectRefused(await system.cli('model', 'load', VLM), /Ollama/);
    expectRefused(await system.cli('mode', 'recording'), /Ollama/);
    expectRefused(await system.cli('generate', VLM, 'hello'), /Ollama/);
    expect(changesIn(since())).toEqual([]);
    expect((await completeStatus(system)).execution_mode).toBe('autopilot');

    system.simulator.faults.clear();
    await system.until('recovered by itself', (status) => !status.degraded_mode, RECOVERY_MS);
    await system.until('CLIP is back where autopilot wants it', (status) => status.clip_device === 'cuda', RECOVERY_MS);
    expect((await system.journal('driver_away', 'driver_back')).map(({ type }) => type)).toEqual([
      'driver_away',
      'driver_back',
    ]);
  });

  it('M16: no answer in time: degraded with that reason, VLM operations fail clearly, all recovers', async () => {
    const since = fromNow(system);
    system.simulator.faults.set('ollama-slow', { ms: 60_000 });
    await system.until('degraded for that reason', ({ degraded_reason }) =>
      /Ollama is not available: .* took too long/.test(degraded_reason ?? ''),
    );
    expectRefused(await system.cli('model', 'load', VLM), /Ollama/);
    expect(await system.json(['embed', 'text', 'a red button'])).toMatchObject({ dimension: 512 });
    // CLIP may have moved; no model has.
    expect(changesIn(since()).filter(({ kind }) => kind.startsWith('load') || kind.startsWith('unload'))).toEqual([]);
    system.simulator.faults.clear();
    await system.until('recovered by itself', (status) => !status.degraded_mode, RECOVERY_MS);
    await system.until('at rest', (status) => status.turns.length === 0);
  });

  it('M16: HTTP 500: degraded with that reason, the loaded VLM stays, no operation is carried out, all recovers', async () => {
    await system.json(['mode', 'recording']);
    const since = fromNow(system);
    system.simulator.faults.set('ollama-http-error', { status: 500 });
    await system.until('degraded', (status) => status.degraded_mode);
    expect((await completeStatus(system)).degraded_reason).toMatch(/Ollama is not available: .*llm server error/);
    expectRefused(await system.cli('model', 'unload', VLM), /Ollama/);
    expect(await system.json(['embed', 'text', 'a red button'])).toMatchObject({ device: 'cpu' });
    system.simulator.faults.clear();
    const { vlm_state } = await system.until('recovered', (status) => !status.degraded_mode, RECOVERY_MS);
    expect(vlm_state).toBe('loaded');
    expect(changesIn(since())).toEqual([]);
    expect(await system.json(['generate', VLM, 'hello'])).toMatchObject({ model: VLM });
    expect(changesIn(since())).toEqual([]);
  });

  const lost: { fault: FaultName; says: RegExp }[] = [
    { fault: 'smi-gpu-lost', says: /lost/i },
    { fault: 'smi-hang', says: /old|answer|hang/i },
    { fault: 'smi-driver-mismatch', says: /mismatch|version/i },
  ];
  it.each(lost)(
    'P9: the reader is lost ($fault): shown as unknown, no new GPU work until it is back',
    async ({ fault, says }) => {
      await system.json(['mode', 'autopilot']);
      await system.until(
        'CLIP is where autopilot wants it',
        ({ clip_device, turns }) => clip_device === 'cuda' && turns.length === 0,
      );
      system.simulator.faults.set(fault);
      await system.until('the figures are withheld', (status) => status.vram === null);
      const status = await completeStatus(system);
      expect(status.degraded_reason).toMatch(says);
      expect(status.gpus).toMatchObject([{ usedMb: null, health: expect.stringMatching(/unknown|lost/) }]);
      const since = fromNow(system);
      expectRefused(await system.cli('model', 'load', VLM), /unknown|lost/i);
      expect(loadedModels(system)).toEqual([]);
      expect(changesIn(since()).filter(({ kind }) => kind === 'load-start')).toEqual([]);
      system.simulator.faults.clear();
      await system.until('the figures are back', ({ vram }) => vram !== null);
      expect((await system.cli('plan', 'model', VLM)).code).toBe(0);
    },
  );
});

describe('a host without a GPU', { timeout: 60_000 }, () => {
  let system: System;
  let simulator: RunningSimulator;
  beforeAll(async () => {
    simulator = await startSimulator({ preset: 'no-gpu' });
    system = await startSystem({
      temporal,
      preset: null,
      config: {
        ollama_endpoint: simulator.info.ollama,
        gpu: { reader: 'none' },
        clip: { command: [...simulator.info.embedder] },
      },
    });
  });
  afterAll(async () => {
    await system.stop();
    await simulator.stop();
  });

  it('M17: CPU only for all models, one warning, a move to the GPU is refused politely', async () => {
    const warnings = (system.agent?.log() ?? '').split('\n').filter((line) => line.includes('no GPU'));
    expect(warnings).toHaveLength(1);
    const status = await completeStatus(system);
    expect(status).toMatchObject({ vram: null, degraded_mode: true, clip_device: 'cpu', gpus: [] });
    expect(status.degraded_reason).toMatch(/no GPU, CPU only/);

    expectRefused(await system.cli('clip', 'move', 'cuda'), /no GPU/i);
    expect((await system.json<Printed>(['clip', 'move', 'cpu'])).outcome).toMatchObject({ status: 'done', steps: [] });
    expect(await system.json(['embed', 'text', 'a red button'])).toMatchObject({ device: 'cpu', dimension: 512 });

    const { outcome } = await system.json<Printed>(['mode', 'recording']);
    expect(outcome).toMatchObject({ status: 'done', residency: { [`model/${VLM}`]: ['cpu'] } });
    expect(await completeStatus(system)).toMatchObject({
      execution_mode: 'recording',
      vlm_state: 'loaded',
      vram: null,
    });
    expect((await system.json<Printed>(['mode', 'autopilot'])).outcome.status).toBe('done');
    expect(await completeStatus(system)).toMatchObject({ vlm_state: 'unloaded', clip_device: 'cpu' });
  });
});
