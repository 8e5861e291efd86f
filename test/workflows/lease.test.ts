/** A lease's workflow, told by a test how its operations end, beside an agent that may be away. */
import { fileURLToPath } from 'node:url';
import { ApplicationFailure, WorkflowNotFoundError } from '@temporalio/client';
import { bundleWorkflowCode, DefaultLogger, Worker, type WorkflowBundleOption } from '@temporalio/worker';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { LeaseRequest, LeaseState, Reservation } from '../../src/contracts/lease.js';
import { SIGNAL } from '../../src/contracts/messages.js';
import { CONTROL_QUEUE, hostQueue, workflowId } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { createLeases, type Leases } from '../../src/gateway/leases.js';
import { readHostState } from '../../src/gateway/publishedState.js';
import { realServer, type Server } from './servers.js';

const HOST = 'leases';
const GPU = 'GPU-1';
/** For what takes a moment on a machine that is not busy. */
const WAIT_MS = 30_000;
const DONE = { status: 'done', summary: 'granted', epochs: { [GPU]: 7 } } as unknown as OperationOutcome;
const refused = (code: string): OperationOutcome =>
  ({ status: 'refused', summary: code, refusal: { code, message: `it is ${code}` } }) as unknown as OperationOutcome;

let server: Server;
let workflowBundle: WorkflowBundleOption;
let leases: Leases;
beforeAll(async () => {
  server = await realServer();
  leases = createLeases(server.client, HOST);
  const workflowsPath = fileURLToPath(new URL('./leaseWorkflows.ts', import.meta.url));
  workflowBundle = await bundleWorkflowCode({ workflowsPath, logger: new DefaultLogger('ERROR') });
  await startWorkers();
}, 120_000);
afterAll(async () => {
  await stopWorkers();
  await server.stop();
}, 60_000);

/** What the agent has, and what happens while it is asked. */
const held = new Map<string, Reservation>();
let away = false;
let asked = 0;
let onRead: (id: string) => Promise<unknown> = () => Promise.resolve();

function answer<T>(value: () => T): Promise<T> {
  asked += 1;
  return away ? Promise.reject(ApplicationFailure.nonRetryable('the agent is away')) : Promise.resolve(value());
}

const activities = {
  describeAgent: () => Promise.reject(ApplicationFailure.nonRetryable('what the host looks at is no matter here')),
  async readReservation(id: string) {
    const found = held.get(id) ?? null;
    await onRead(id);
    return await answer(() => found);
  },
  releaseReservation: (id: string) => answer(() => void held.delete(id)),
  renewReservation: (id: string, ttlSeconds: number) =>
    answer(() => {
      const known = held.get(id);
      return known === undefined ? null : { ...known, ttlSeconds, expiresAtMs: Date.now() + ttlSeconds * 1_000 };
    }),
};

let workers: { worker: Worker; run: Promise<void> }[] = [];

async function startWorkers(): Promise<void> {
  for (const taskQueue of [CONTROL_QUEUE, hostQueue(HOST)]) {
    const connection = server.native;
    const worker = await Worker.create({ connection, taskQueue, workflowBundle, activities });
    workers.push({ worker, run: worker.run() });
  }
}

async function stopWorkers(): Promise<void> {
  for (const { worker } of workers) worker.shutdown();
  await Promise.all(workers.map(({ run }) => run));
  workers = [];
}

const handleOf = (id: string) => server.client.workflow.getHandle(workflowId.lease(HOST, id));
const operationOf = (id: string, n: number) =>
  server.client.workflow.getHandle(`${workflowId.lease(HOST, id)}/grant/${n}`);
const gpuHost = () => server.client.workflow.getHandle(workflowId.gpuHost(HOST));

const startHost = () =>
  server.client.workflow.start('gpuHost', {
    workflowId: workflowId.gpuHost(HOST),
    taskQueue: CONTROL_QUEUE,
    args: [{ host: HOST }],
  });

async function inLine(): Promise<string[]> {
  return (await readHostState(server.client, HOST))?.leases.map(({ id }) => id) ?? [];
}

let count = 0;

async function ask(ttlSeconds = 600): Promise<string> {
  count += 1;
  const request: LeaseRequest = { id: `l${count}`, holder: 'a test', mb: 1_000, priority: 50, ttlSeconds, pid: null };
  await leases.start(request);
  return request.id;
}

/** As the agent does when an operation grants it. */
async function grant(id: string, more: Partial<Reservation> = {}): Promise<void> {
  const { ttlSeconds } = await leases.state(id);
  const now = Date.now();
  const expiresAtMs = now + ttlSeconds * 1_000;
  held.set(id, { gpus: [GPU], grantedAtMs: now, expiresAtMs, revokedUntilMs: null, ...more } as Reservation);
}

/** The nth operation of a lease ends so, once it has begun. */
async function end(id: string, n: number, outcome: OperationOutcome): Promise<void> {
  await begun(id, n);
  await operationOf(id, n).signal('endWith', outcome);
}

const begun = (id: string, n: number) =>
  expect
    .poll(() => operationOf(id, n).describe().catch(unlessUnknown), { timeout: WAIT_MS, message: `operation ${n}` })
    .not.toBeNull();

function unlessUnknown(error: unknown): null {
  if (!(error instanceof WorkflowNotFoundError)) throw error;
  return null;
}

const comesTo = (id: string, state: Partial<LeaseState>) =>
  expect.poll(() => leases.state(id), { timeout: WAIT_MS }).toMatchObject(state);

async function hold(ttlSeconds?: number): Promise<string> {
  const id = await ask(ttlSeconds);
  await grant(id);
  await end(id, 1, DONE);
  await comesTo(id, { state: 'held' });
  return id;
}

/** There may be room. */
const wake = (id: string) => handleOf(id).signal(SIGNAL.leasePosition, { position: 1 });

describe('a lease', { timeout: 120_000 }, () => {
  beforeEach(async () => {
    held.clear();
    away = false;
    onRead = () => Promise.resolve();
    await startHost();
  });
  afterEach(async () => {
    await gpuHost().terminate('the test is over');
    if (workers.length === 0) await startWorkers();
    for (let n = 1; n <= count; n += 1) await handleOf(`l${n}`).terminate('the test is over').catch(unlessUnknown);
  });

  it('that is given back while its operation waits for its turn takes nothing from others any more', async () => {
    const id = await ask();
    await begun(id, 1);
    await leases.release(id);
    await comesTo(id, { state: 'ended', reason: 'released while it waited' });
    expect((await operationOf(id, 1).describe()).status.name).toBe('CANCELLED');
  });

  it('gives back what an operation granted that did not end well', async () => {
    const id = await ask();
    await grant(id);
    await begun(id, 1);
    await operationOf(id, 1).terminate('by a person');
    await comesTo(id, { state: 'queued', reason: 'its operation ended without an outcome' });
    await leases.release(id);
    await comesTo(id, { state: 'ended' });
    await expect.poll(() => [...held.keys()]).toEqual([]);
  });

  it('that nobody held is over at once also while its agent is away', async () => {
    const id = await ask();
    await begun(id, 1);
    away = true;
    await leases.release(id);
    await comesTo(id, { state: 'ended', reason: 'released while it waited' });
    expect((await handleOf(id).describe()).status.name).toBe('RUNNING');
  });

  it.each(['queued', 'held'])(
    'that is cancelled while it is %s gives back what it has, and leaves the line',
    async (is) => {
      const id = is === 'held' ? await hold() : await ask();
      await begun(id, 1);
      await grant(id);
      await handleOf(id).cancel();
      await comesTo(id, { state: 'ended', reason: 'cancelled' });
      await expect.poll(async () => (await handleOf(id).describe()).status.name).toBe('CANCELLED');
      expect([...held.keys()]).toEqual([]);
      await expect.poll(inLine).toEqual([]);
    },
  );

  it('is given back once an agent that was away answers again', async () => {
    const id = await hold();
    away = true;
    const before = asked;
    await leases.release(id);
    await expect.poll(() => asked, { timeout: WAIT_MS }).toBeGreaterThan(before);
    away = false;
    await comesTo(id, { state: 'ended', reason: 'released' });
    expect([...held.keys()]).toEqual([]);
  });

  it('ends when its time is over although its agent stays away', async () => {
    const id = await hold(1);
    away = true;
    await comesTo(id, { state: 'ended', reason: 'expired' });
    await expect.poll(async () => (await handleOf(id).describe()).status.name).toBe('COMPLETED');
  });

  it('has ended for who looks when its workflow was terminated', async () => {
    const id = await ask();
    await begun(id, 1);
    await handleOf(id).terminate('by a person');
    const ended = { state: 'ended', position: null, reason: 'its workflow was terminated' };
    expect(await leases.settled(id, { signal: new AbortController().signal })).toMatchObject(ended);
  });

  it('that is revoked before it knows of its grant is held as revoked', async () => {
    const told = await ask();
    await grant(told);
    onRead = async () => {
      await handleOf(told).signal(SIGNAL.leaseRevoked);
      // The workflow must hear it before the answer.
      await expect.poll(() => heard(handleOf(told), SIGNAL.leaseRevoked), { timeout: WAIT_MS }).toBe(1);
      onRead = () => Promise.resolve();
    };
    await end(told, 1, DONE);
    await comesTo(told, { state: 'revoked' });
    const seen = await ask();
    await grant(seen, { revokedUntilMs: Date.now() + 60_000 });
    await end(seen, 1, DONE);
    await comesTo(seen, { state: 'revoked' });
  });

  it('waits on when its grant was taken before it knew of it', async () => {
    const id = await ask();
    await end(id, 1, DONE);
    await comesTo(id, { state: 'queued', reason: 'what it was granted was taken at once' });
    await wake(id);
    await grant(id);
    await end(id, 2, DONE);
    await comesTo(id, { state: 'held' });
  });

  it('ends at the second word of its revocation also when that comes while it looks', async () => {
    const id = await hold();
    onRead = async () => {
      onRead = () => Promise.resolve();
      held.delete(id);
      await handleOf(id).signal(SIGNAL.leaseRevoked);
      await expect.poll(() => heard(handleOf(id), SIGNAL.leaseRevoked), { timeout: WAIT_MS }).toBe(2);
    };
    await handleOf(id).signal(SIGNAL.leaseRevoked);
    await comesTo(id, { state: 'ended', reason: 'something of higher priority took its memory' });
  });

  it('is renewed by what came before its end, also when both are seen together', async () => {
    const id = await hold(6);
    await expect.poll(() => hasSeen(id, 'timerStartedEventAttributes'), { timeout: WAIT_MS }).toBe(true);
    await stopWorkers();
    await handleOf(id).signal(SIGNAL.renewLease, { renewal: 'in time', ttlSeconds: 600 });
    await expect.poll(() => hasSeen(id, 'timerFiredEventAttributes'), { timeout: WAIT_MS }).toBe(true);
    await startWorkers();
    await comesTo(id, { state: 'held', renewal: 'in time', ttlSeconds: 600 });
  });

  it('is refused for good only by its first look: a GPU that is not seen for a while comes back', async () => {
    const never = await ask();
    await end(never, 1, refused('no-gpu'));
    await comesTo(never, { state: 'ended', reason: 'it is no-gpu' });
    const id = await ask();
    await end(id, 1, refused('no-room'));
    await comesTo(id, { state: 'queued', reason: 'it is no-room' });
    await wake(id);
    await end(id, 2, refused('no-gpu'));
    await comesTo(id, { state: 'queued', reason: 'it is no-gpu' });
    await wake(id);
    await grant(id);
    await end(id, 3, DONE);
    await comesTo(id, { state: 'held' });
  });

  it('is in line again after its host was begun anew', async () => {
    const id = await ask();
    await begun(id, 1);
    await expect.poll(inLine, { timeout: WAIT_MS }).toEqual([id]);
    await gpuHost().terminate('an upgrade');
    await startHost();
    await end(id, 1, refused('no-room'));
    await wake(id);
    await expect.poll(inLine, { timeout: WAIT_MS }).toEqual([id]);
  });

  it('that says once more that it waits wakes nobody', async () => {
    const id = await ask();
    await expect.poll(inLine, { timeout: WAIT_MS }).toEqual([id]);
    for (let n = 0; n < 3; n += 1) await gpuHost().signal(SIGNAL.leaseWaits, { id, priority: 50 });
    await expect.poll(() => heard(gpuHost(), SIGNAL.leaseWaits), { timeout: WAIT_MS }).toBe(4);
    const { events } = await gpuHost().fetchHistory();
    expect(events?.filter((event) => event.signalExternalWorkflowExecutionInitiatedEventAttributes)).toHaveLength(1);
  });
});

/** So many signals of this name have been taken in. */
async function heard(workflow: ReturnType<typeof gpuHost>, name: string): Promise<number> {
  const events = (await workflow.fetchHistory()).events ?? [];
  const lastTask = events.findLastIndex((event) => event.workflowTaskCompletedEventAttributes);
  return events
    .slice(0, lastTask)
    .filter((event) => event.workflowExecutionSignaledEventAttributes?.signalName === name).length;
}

async function hasSeen(
  id: string,
  event: 'timerStartedEventAttributes' | 'timerFiredEventAttributes',
): Promise<boolean> {
  const { events } = await handleOf(id).fetchHistory();
  return events?.some((one) => one[event]) ?? false;
}
