import type { Client } from '@temporalio/client';
import { expect, it, onTestFinished, vi } from 'vitest';
import { STATE_MEMO } from '../../src/contracts/messages.js';
import { createLeases } from '../../src/gateway/leases.js';

it('a renewal that no worker hears ends, and says what to start', async () => {
  const signal = vi.fn(() => Promise.resolve());
  const describe = () =>
    Promise.resolve({ memo: { [STATE_MEMO]: { id: 'render', state: 'held', renewal: 'former' } } });
  const client = { workflow: { getHandle: () => ({ signal, describe }) } } as unknown as Client;
  let seconds = 0;
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => (seconds += 10) * 1_000);
  onTestFinished(() => clock.mockRestore());
  await expect(createLeases(client, 'desk').renew('render', 60)).rejects.toMatchObject({
    code: 'unavailable',
    message: 'Lease "render" is not renewed: no control worker has answered for 30 s.',
    remedy: expect.stringContaining('--role control'),
  });
  expect(signal).toHaveBeenCalledOnce();
});
