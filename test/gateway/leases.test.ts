import {
  type Client,
  WorkflowExecutionAlreadyStartedError,
  type WorkflowExecutionStatusName,
} from '@temporalio/client';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { STATE_MEMO } from '../../src/contracts/messages.js';
import { createLeases } from '../../src/gateway/leases.js';

function clientOf(
  state: Partial<LeaseState>,
  status: WorkflowExecutionStatusName,
  signal = vi.fn(),
  start = vi.fn(),
): Client {
  const describe = () =>
    Promise.resolve({ memo: { [STATE_MEMO]: { id: 'render', ...state } }, status: { name: status } });
  return { workflow: { getHandle: () => ({ signal, describe }), start } } as unknown as Client;
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

const request = { id: 'render', holder: 'a test', mb: 1_000, on: 1, priority: 50, ttlSeconds: 60, pid: null };
const isTaken = () => Promise.reject(new WorkflowExecutionAlreadyStartedError('started', 'lease/desk/render', 'lease'));

it('a name is free again as soon as its lease is over, also before the last words of its workflow', async () => {
  const start = vi.fn().mockImplementationOnce(isTaken).mockImplementationOnce(isTaken).mockResolvedValue({});
  await createLeases(clientOf({ state: 'ended' }, 'RUNNING', vi.fn(), start), 'desk').start(request);
  expect(start).toHaveBeenCalledTimes(3);
});

it('a name that is taken is refused at once', async () => {
  const start = vi.fn().mockImplementation(isTaken);
  const leases = createLeases(clientOf({ state: 'held' }, 'RUNNING', vi.fn(), start), 'desk');
  await expect(leases.start(request)).rejects.toMatchObject({ code: 'lease-exists' });
  expect(start).toHaveBeenCalledOnce();
});
