import type { Client, WorkflowExecutionStatusName } from '@temporalio/client';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { STATE_MEMO } from '../../src/contracts/messages.js';
import { createLeases } from '../../src/gateway/leases.js';

function clientOf(state: Partial<LeaseState>, status: WorkflowExecutionStatusName, signal = vi.fn()): Client {
  const describe = () =>
    Promise.resolve({ memo: { [STATE_MEMO]: { id: 'render', ...state } }, status: { name: status } });
  return { workflow: { getHandle: () => ({ signal, describe }) } } as unknown as Client;
}

it('a renewal that no worker hears ends, and says what to start', async () => {
  const signal = vi.fn(() => Promise.resolve());
  const client = clientOf({ state: 'held', renewal: 'former' }, 'RUNNING', signal);
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

it.each([
  ['queued', 'FAILED', 'its workflow has failed'],
  ['held', 'TERMINATED', 'its workflow was terminated'],
  ['revoked', 'TIMED_OUT', 'its workflow has timed out'],
] as const)('a lease whose workflow died while it was %s has ended: %s', async (state, status, reason) => {
  const leases = createLeases(clientOf({ state, position: 1 }, status), 'desk');
  expect(await leases.state('render')).toMatchObject({ state: 'ended', position: null, reason });
  expect(await leases.settled('render', { signal: new AbortController().signal })).toMatchObject({ state: 'ended' });
});

it.each([
  ['held', 'RUNNING'],
  ['held', 'CONTINUED_AS_NEW'],
  ['ended', 'COMPLETED'],
] as const)('a lease that is %s stays so when its workflow is %s', async (state, status) => {
  const published = { id: 'render', state, reason: 'as it says' };
  expect(await createLeases(clientOf(published, status), 'desk').state('render')).toEqual(published);
});
