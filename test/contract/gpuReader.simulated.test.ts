/** The GPU reader against the simulator's nvidia-smi, a process of its own, with each of its faults. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseReader } from '../../src/adapters/gpu/chooseReader.js';
import { createNvidiaSmiReader } from '../../src/adapters/gpu/nvidiaSmi.js';
import type { GpuReader } from '../../src/adapters/gpu/reader.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { type Recorder, record } from '../adapters/gpu/smiScript.js';
import { describeGpuReaderContract } from './gpuReaderContract.js';

const clock = { now: () => performance.now() };
const built = existsSync(fileURLToPath(new URL('../../dist/simulator/nvidiaSmi.js', import.meta.url)));
const skip = !built && process.env.CI !== 'true';
const title = `the GPU reader on the simulator${skip ? ' (skipped: run the build first, it makes nvidia-smi)' : ''}`;

describe.skipIf(skip)(title, () => {
  let simulator: RunningSimulator;
  let reader: GpuReader | undefined;

  beforeEach(async () => {
    simulator = await startSimulator({ preset: 'rtx4090' });
  });
  afterEach(async () => {
    simulator.faults.clear();
    await reader?.stop();
    reader = undefined;
    await simulator.stop();
  });

  const begin = (): Recorder => {
    reader = createNvidiaSmiReader({ command: [...simulator.info.nvidiaSmi], clock, hangAfterMs: 2_000 });
    reader.setPeriod(100);
    return record(reader);
  };

  const faults = [
    { fault: 'smi-na', health: 'unknown', problem: 'N/A' },
    { fault: 'smi-err', health: 'unknown', problem: 'ERR!' },
    { fault: 'smi-no-permission', health: 'unknown', problem: 'Insufficient Permissions' },
    { fault: 'smi-mig', health: 'unknown', problem: '-mig 0' },
    { fault: 'smi-gpu-lost', health: 'lost', problem: 'dmesg' },
    { fault: 'smi-driver-mismatch', health: 'unknown', problem: 'Reboot' },
    { fault: 'smi-hang', health: 'unknown', problem: 'may hang' },
  ] as const;
  for (const { fault, health, problem } of faults)
    it(`shows ${fault} as ${health}, with a remedy, and recovers`, async () => {
      const seen = begin();
      await seen.until(({ gpus }) => gpus[0]?.health === 'ok', 0);
      simulator.faults.set(fault);
      const odd = await seen.until(({ gpus }) => gpus[0]?.health === health);
      expect(odd.gpus).toMatchObject([{ usedMb: null, problem: expect.stringContaining(problem) }]);
      simulator.faults.clear();
      const back = await seen.until(({ gpus }) => gpus[0]?.health === 'ok');
      expect(back.gpus[0]?.usedMb).not.toBeNull();
    });

  it('gives no wrong figure while lines are cut, come in pieces and stick together', async () => {
    const seen = begin();
    const used = (await seen.until(({ gpus }) => gpus[0]?.health === 'ok', 0)).gpus[0]?.usedMb;
    const from = seen.samples.length;
    simulator.faults.set('smi-cut-lines');
    await seen.until(({ gpus }) => gpus[0]?.health === 'unknown');
    for (let more = 0; more < 8; more += 1) await seen.until(() => true);
    for (const { gpus } of seen.samples.slice(from)) expect([used, null]).toContain(gpus[0]?.usedMb);
  });

  it('is chosen, or not, for the right reason', async () => {
    const command = [...simulator.info.nvidiaSmi];
    const choose = async () => {
      const { reader, warning } = await chooseReader({ command, clock });
      return [reader.kind, warning];
    };
    expect(await choose()).toEqual(['nvidia-smi', null]);
    simulator.faults.set('smi-missing');
    expect(await choose()).toEqual(['none', expect.stringContaining('not installed')]);
    simulator.faults.clear();
    simulator.faults.set('smi-driver-mismatch');
    expect(await choose()).toEqual(['nvidia-smi', expect.stringContaining('Reboot')]);
  });
});

describeGpuReaderContract('simulated', async () => {
  if (skip) return { skip: 'run the build first: it makes nvidia-smi' };
  const simulator = await startSimulator({ preset: 'rtx4090' });
  const { spec } = simulator.gpuHost.card(0);
  return {
    command: [...simulator.info.nvidiaSmi],
    card: { uuid: spec.uuid, index: 0, totalMb: spec.totalMb },
    async hold(mb) {
      const game = simulator.gpuHost.startProcess('compute', '/usr/bin/game');
      simulator.gpuHost.resize(game, spec.uuid, mb);
      return { pid: game.pid, name: /^\/usr\/bin\/game$/, end: () => simulator.gpuHost.end(game) };
    },
    stop: () => simulator.stop(),
  };
});
