/** What `vramflow up` takes for its hardware where nothing is configured. */
import { describe, expect, it, onTestFinished } from 'vitest';
import { simulatedPreset } from '../../src/cli/bringUp.js';
import { createFakeSmi, listLine, type Script } from '../adapters/gpu/smiScript.js';
import { Sandbox } from '../config/sandbox.js';

async function chosen(script: Script | null, { simulate, yaml }: { simulate?: string | true; yaml?: string } = {}) {
  const fake = script === null ? null : createFakeSmi(script);
  onTestFinished(() => fake?.remove());
  const sandbox = yaml === undefined ? new Sandbox() : new Sandbox().project(yaml);
  const env = { VRAMFLOW_GPU_NVIDIA_SMI: JSON.stringify(fake?.command ?? ['/nowhere/nvidia-smi']) };
  const said: string[] = [];
  const preset = await simulatedPreset(sandbox.load({ env }), simulate, (line) => said.push(line));
  return { preset, said, asked: fake?.starts().length ?? 0 };
}

describe('without a configuration', () => {
  it('a GPU is used', async () => {
    expect(await chosen({ list: [listLine(0)] })).toMatchObject({ preset: null, said: [] });
  });

  it.each<[string, Script | null, string]>([
    ['without nvidia-smi', null, 'not installed'],
    ['where the driver finds no device', { list: ['No devices were found'], exit: { list: 6 } }, 'finds no GPU'],
    ['where it lists none', { list: [] }, 'lists no GPU'],
  ])('%s the hardware is simulated, and the reason is said', async (_what, script, reason) => {
    const { preset, said } = await chosen(script);
    expect(preset).toBe('rtx4090');
    expect(said).toEqual([expect.stringMatching(`so the hardware is simulated.*${reason}`)]);
  });

  it.each<[string, string, string]>([
    ['does not match its library', 'Failed to initialize NVML: Driver/library version mismatch', 'Reboot'],
    [
      'cannot be reached',
      "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
      'cannot reach the NVIDIA driver',
    ],
    ['has lost its GPU', 'Unable to determine the device handle for GPU 0000:0B:00.0: GPU is lost.', 'Xid'],
  ])('a driver that %s is told, and nothing is simulated', async (_what, words, reason) => {
    const { preset, said } = await chosen({ list: [words], exit: { list: 9 } });
    expect(preset).toBeNull();
    expect(said).toEqual([expect.stringMatching(`nothing is simulated \\(--simulate does that\\).*${reason}`)]);
  });
});

describe('nvidia-smi is not asked', () => {
  const broken = { list: ['No devices were found'] };

  it('where somebody wants the simulator', async () => {
    expect(await chosen(broken, { simulate: true })).toEqual({ preset: 'rtx4090', said: [], asked: 0 });
    expect(await chosen(broken, { simulate: 'no-gpu' })).toEqual({ preset: 'no-gpu', said: [], asked: 0 });
  });

  it('where there is a configuration', async () => {
    expect(await chosen(broken, { yaml: 'log_level: info\n' })).toEqual({ preset: null, said: [], asked: 0 });
  });
});
