import { expect, it } from 'vitest';
import { unlistedOn } from '../../src/cli/commands/gpu.js';
import type { GpuProcessStatus } from '../../src/contracts/status.js';
import { gpu, tenant } from '../domain/planner/hosts.js';

const process = (id: string, owner: string, used_mb: number | null): GpuProcessStatus => ({
  gpu: id,
  pid: 1,
  name: 'x',
  used_mb,
  owner,
});

it('what is foreign and in no list is the rest of each GPU', () => {
  const gpus = [
    gpu({ id: 'A', foreignMb: 1_000 }),
    gpu({ id: 'B', foreignMb: 300 }),
    gpu({ id: 'C', foreignMb: null }),
    gpu({ id: 'D', foreignMb: 200 }),
  ];
  const tenants = [tenant('service/tts'), tenant('model/a')];
  const processes = [
    process('A', 'service/tts', 4_000),
    process('A', 'foreign', 300),
    process('A', 'ollama', 100),
    process('B', 'model/a', 4_000),
    process('D', 'foreign', 700),
    process('D', 'foreign', null),
  ];
  const restOf = (list: GpuProcessStatus[] | null) =>
    unlistedOn({ gpus, tenants, processes: list }).map(({ mb }) => mb);
  expect(restOf(processes)).toEqual([600, 300, null, 0]);
  expect(restOf(null)).toEqual([null, null, null, null]);
  expect(unlistedOn({ gpus, tenants, processes }).map(({ gpu }) => gpu)).toEqual(['A', 'B', 'C', 'D']);
});
