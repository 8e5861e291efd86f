/** The CLIP part is optional: a host without it switches modes and answers requests, and says what is missing. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { violations } from '../../src/simulator/record.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import type { Printed } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const INSTALL = expect.stringContaining('vramflow clip install') as string;

describe('a host without the CLIP part', { timeout: 60_000 }, () => {
  let simulator: RunningSimulator;
  let system: System;
  beforeAll(async () => {
    simulator = await startSimulator({ preset: 'rtx4090' });
    // As its real parts: a simulated host would bring an embedder of its own.
    const { ollama, nvidiaSmi } = simulator.info;
    system = await startSystem({
      preset: null,
      config: { ollama_endpoint: ollama, gpu: { reader: 'nvidia-smi', nvidia_smi: nvidiaSmi } },
      env: { NODE_OPTIONS: `--import ${new URL('../parts/withoutClip.mjs', import.meta.url)}` },
    });
  });
  afterAll(async () => {
    await system?.stop();
    expect(violations(simulator.record())).toEqual([]);
    await simulator.stop();
  });

  it('says in the status that it is missing, and how to get it', async () => {
    const status = await system.status();
    expect(status).toMatchObject({ clip_part: 'missing', clip_device: 'cpu', vlm_state: 'unloaded' });
    expect(status.drivers).toContainEqual(expect.objectContaining({ id: 'clip', available: false, reason: INSTALL }));
    expect((await system.cli('status')).stdout).toMatch(/CLIP: cpu \(missing\)/);
  });

  it('answers a request on demand', async () => {
    const { text } = await system.json<{ text: string }>(['generate', 'vlm', 'hello']);
    expect(text.length).toBeGreaterThan(0);
    expect(await system.status()).toMatchObject({ vlm_state: 'loaded', clip_part: 'missing' });
  });

  it('switches to autopilot and to recording', async () => {
    for (const [mode, vlm] of [
      ['autopilot', 'unloaded'],
      ['recording', 'loaded'],
    ] as const) {
      const { outcome } = await system.json<Printed>(['mode', mode]);
      expect(outcome).toMatchObject({ status: 'done', failure: null });
      expect(await system.status()).toMatchObject({ execution_mode: mode, vlm_state: vlm, clip_part: 'missing' });
    }
  });

  it('refuses what needs it, and says what to install', async () => {
    for (const argv of [
      ['clip', 'move', 'cuda'],
      ['embed', 'text', 'a red button'],
    ]) {
      const { code, stdout, stderr } = await system.cli(...argv);
      expect(code).not.toBe(0);
      expect(stdout + stderr).toEqual(INSTALL);
    }
  });
});
