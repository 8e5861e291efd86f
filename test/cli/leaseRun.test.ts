import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CliContext } from '../../src/cli/context.js';
import { runHolding } from '../../src/cli/leaseRun.js';
import type { Output } from '../../src/cli/output.js';
import type { LeaseState } from '../../src/contracts/lease.js';
import { DECLARED_GPU } from '../../src/contracts/names.js';
import type { Leases } from '../../src/gateway/leases.js';
import { testFolder } from '../agent/folder.js';

const leases = { state: () => Promise.resolve({ state: 'held' }), release: () => Promise.resolve() };

/** What a command under a lease of these GPUs finds in CUDA_VISIBLE_DEVICES. */
async function visible(gpus: string[], env: NodeJS.ProcessEnv): Promise<string> {
  const cwd = testFolder();
  const lease = { id: 'job', ttlSeconds: 60, gpus } as LeaseState;
  const command = ['/bin/sh', '-c', 'echo "${CUDA_VISIBLE_DEVICES-unset}" > seen'];
  const context = { env: { PATH: process.env['PATH'], ...env }, cwd } as unknown as CliContext;
  const code = await runHolding(leases as unknown as Leases, lease, command, context, {} as Output);
  expect(code).toBe(0);
  return readFileSync(join(cwd, 'seen'), 'utf8').trim();
}

describe.runIf(process.platform === 'linux')('a command under a lease', () => {
  it('sees the GPUs that it was granted', async () => {
    expect(await visible(['GPU-a', 'GPU-b'], { CUDA_VISIBLE_DEVICES: '0' })).toBe('GPU-a,GPU-b');
  });

  it('sees what it would see without vramflow where the GPU is only declared (P9)', async () => {
    expect(await visible([DECLARED_GPU], {})).toBe('unset');
    expect(await visible([DECLARED_GPU], { CUDA_VISIBLE_DEVICES: '1' })).toBe('1');
  });
});
