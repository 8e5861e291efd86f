/** Turns over time: holders that end or hang, superseded switches, refused epochs, an agent that is away, idle models. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { failure } from '../../src/activities/failures.js';
import { FAILURE } from '../../src/contracts/failures.js';
import { SIGNAL } from '../../src/contracts/messages.js';
import { workflowId } from '../../src/contracts/names.js';
import type { OperationRef, TurnRequest } from '../../src/contracts/operation.js';
import { GPU, IDLE_SECONDS, MODEL, VLM } from './hardware.js';
import { judgeOutcome, judgeRecord } from './judgeScripted.js';
import type { ScriptedAgent } from './scriptedAgent.js';
import { realServer, skippingServer } from './servers.js';
import { World } from './world.js';

const RECORDING = { kind: 'mode', mode: 'recording' } as const;
const AUTOPILOT = { kind: 'mode', mode: 'autopilot' } as const;
const LOAD = { kind: 'model', tenant: VLM, verb: 'load', demand: false } as const;

/** The host looks at a holder every five seconds. */
const BELOW_HOLDER_CHECK_MS = 4_000;
/** The server suggests to continue as new from 4,096 events on. */
const SUGGESTED_FROM_EVENTS = 4_200;

/** A server of its own for each test: what one leaves unfinished would hold up the time of the next. */
describe('turns over time', { timeout: 90_000 }, () => {
  let world: World | null = null;
  beforeEach(async ({ skip }) => {
    const server = await skippingServer();
    if ('missing' in server) return skip(server.missing);
    world = await World.start(server);
  });
  afterEach(async () => {
    await world?.stop();
    world = null;
  });
  const theWorld = (): World => {
    if (world === null) throw new Error('there is no world');
    return world;
  };

  it('a terminated holder is noticed, and the next one gets its turn', async () => {
    const agent = await theWorld().host();
    const holder = await hold(theWorld(), agent);
    const next = await theWorld().start(agent, LOAD, 'next');
    await theWorld().until(async () => (await theWorld().hostState(agent)).queue.length === 1);
    await holder.terminate('by hand');
    const outcome = await theWorld().end(next);
    expect(outcome.status, outcome.summary).toBe('done');
    expect(judgeRecord(agent.hardware.record)).toEqual([]);
  });

  it('a holder that runs past its deadline is ended by the host, and the next one gets its turn', async () => {
    const agent = await theWorld().host();
    // A workflow that lives long: the idle timer of another host, whose model stays in use.
    const other = await theWorld().host((one) => {
      one.hardware.vlm = 'loaded';
      one.use(Number.MAX_SAFE_INTEGER);
    });
    const holder = theWorld().client.workflow.getHandle(workflowId.idleUnload(other.host, MODEL));
    await theWorld().until(async () => (await holder.describe().catch(() => null))?.status.name === 'RUNNING');
    await giveTurn(theWorld(), agent, { workflowId: holder.workflowId, runId: (await holder.describe()).runId });
    await theWorld().letPass(14 * 60_000, BELOW_HOLDER_CHECK_MS);
    expect((await holder.describe()).status.name).toBe('RUNNING');
    const next = await theWorld().start(agent, LOAD, 'next');
    const outcome = await theWorld().end(next);
    expect(outcome.status, outcome.summary).toBe('done');
    expect((await holder.describe()).status.name).toBe('TERMINATED');
  });

  it('a newer mode switch supersedes the queued one and the running one; the last one wins (M11)', async () => {
    const agent = await theWorld().host();
    const gate = stopsAt(agent, 'loadTenant#1 during');
    const first = await theWorld().start(agent, RECORDING, 'first');
    await gate.reached;
    const second = await theWorld().start(agent, RECORDING, 'second');
    const third = await theWorld().start(agent, AUTOPILOT, 'third');
    const superseded = await second.result();
    gate.open();
    expect(superseded).toMatchObject({ status: 'superseded', supersededBy: third.workflowId });
    const [one, last] = [await theWorld().end(first), await theWorld().end(third)];
    expect(one.status).toBe('superseded');
    expect(last.status, last.summary).toBe('done');
    expect(judgeOutcome(last, agent.hardware)).toEqual([]);
    expect(judgeRecord(agent.hardware.record)).toEqual([]);
    expect((await theWorld().hostState(agent)).intents.mode).toBe('autopilot');
  });

  it('an agent that has seen higher epochs gets a grant above them', async () => {
    const agent = await theWorld().host();
    agent.raiseEpochs({ [GPU]: 40, cpu: 7 });
    const outcome = await theWorld().run(agent, RECORDING, 'r1');
    expect(outcome.status, outcome.summary).toBe('done');
    expect(agent.epochs[GPU]).toBeGreaterThan(40);
    expect(agent.hardware.record.every(({ epoch }) => epoch > 40)).toBe(true);
  });

  it('a failed operation puts the former residency back, but not while another one waits', async () => {
    const alone = await theWorld().host(onGpu);
    alone.script = failingLoads();
    const restored = await theWorld().run(alone, RECORDING, 'r1');
    expect(restored).toMatchObject({ status: 'failed', compensation: expect.stringContaining('put back') });
    expect(alone.hardware.embedders).toEqual([GPU]);

    const busy = await theWorld().host(onGpu);
    busy.script = failingLoads();
    const gate = stopsAt(busy, 'loadTenant#4 before');
    const failing = await theWorld().start(busy, RECORDING, 'r1');
    await theWorld().until(() => gate.isReached());
    const successor = await theWorld().start(busy, { kind: 'embedder', device: 'cpu' }, 'successor');
    await theWorld().until(async () => (await theWorld().hostState(busy)).queue.length === 1);
    gate.open();
    const outcome = await theWorld().end(failing);
    expect(outcome).toMatchObject({
      status: 'failed',
      compensation: expect.stringContaining('another operation waits'),
    });
    expect((await theWorld().end(successor)).status).toBe('done');
    expect(busy.hardware.embedders).toEqual(['cpu']);
  });

  it('a model that nobody uses is unloaded when its time has passed, and not before (M12)', async () => {
    const agent = await theWorld().host();
    await theWorld().run(agent, LOAD, 'r1');
    await theWorld().letPass((IDLE_SECONDS - 20) * 1_000);
    expect(agent.hardware.vlm).toBe('loaded');
    agent.use(await agent.now());
    await theWorld().letPass((IDLE_SECONDS - 20) * 1_000);
    expect(agent.hardware.vlm).toBe('loaded');
    await theWorld().letPass(40_000);
    await theWorld().until(() => agent.hardware.vlm === 'absent');
    expect(judgeRecord(agent.hardware.record)).toEqual([]);
  });
});

describe('turns in real time', () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start(await realServer());
  }, 60_000);
  afterAll(() => world.stop(), 60_000);

  it('a host with a long history continues as new and forgets nobody', async () => {
    const agent = await world.host();
    const handle = world.client.workflow.getHandle(workflowId.gpuHost(agent.host));
    const { runId: first } = await handle.describe();
    const holder = await hold(world, agent);
    const next = await world.start(agent, LOAD, 'next');
    await world.until(async () => (await world.hostState(agent)).queue.length === 1);
    for (let history = 0; history < SUGGESTED_FROM_EVENTS; ) {
      await Promise.all(Array.from({ length: 50 }, () => handle.signal(SIGNAL.agentOnline)));
      const { runId, historyLength } = await handle.describe();
      if (runId !== first) break;
      history = historyLength;
    }
    await world.until(async () => (await handle.describe()).runId !== first, 20_000);
    const { turns, queue } = await world.hostState(agent);
    expect(turns.map(({ operation }) => operation.workflowId)).toEqual([holder.workflowId]);
    expect(queue).toHaveLength(1);
    await holder.terminate('by hand');
    expect((await world.end(next)).status).toBe('done');
  }, 90_000);

  // The skipping server's time stands still while an activity waits for its worker: these two minutes are real ones.
  it.runIf(process.env['VRAMFLOW_SOAK'] === '1')(
    'an agent that is away for its two minutes fails the operation, and the turn is free',
    async () => {
      const agent = await world.host();
      await agent.stop();
      const outcome = await world.run(agent, RECORDING, 'r1');
      expect(outcome).toMatchObject({ status: 'failed', failure: { type: FAILURE.agentAway } });
      expect(outcome.totalMs).toBeGreaterThanOrEqual(119_000);
      expect(outcome.totalMs).toBeLessThan(180_000);
      expect((await world.hostState(agent)).turns).toEqual([]);
    },
    240_000,
  );
});

const onGpu = ({ hardware }: ScriptedAgent): void => {
  hardware.embedders = [GPU];
};

/** Every load fails, as Ollama says it. */
const failingLoads = () => (point: string) =>
  /^loadTenant#\d+ during$/.test(point) ? failure(FAILURE.loadFailed, 'exit status 2') : 'go-on';

/** Holds the agent up at a point until it is opened. */
function stopsAt(agent: ScriptedAgent, where: string) {
  const before = agent.script;
  let open = (): void => {};
  let arrived = (): void => {};
  let there = false;
  const opened = new Promise<'go-on'>((resolve) => {
    open = () => resolve('go-on');
  });
  const reached = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  agent.script = (point) => {
    if (point !== where) return before(point);
    there = true;
    arrived();
    return opened;
  };
  return { open, reached, isReached: () => there };
}

/** An operation that has the turn and never does anything: its queue is nobody's. */
async function hold(world: World, agent: ScriptedAgent) {
  const handle = await world.client.workflow.start('modelOperation', {
    workflowId: `model/${agent.host}/holder`,
    taskQueue: 'nobody',
    args: [],
  });
  await giveTurn(world, agent, { workflowId: handle.workflowId, runId: handle.firstExecutionRunId });
  return handle;
}

async function giveTurn(world: World, agent: ScriptedAgent, operation: OperationRef): Promise<void> {
  const request: TurnRequest = { operation, devices: 'all', goal: LOAD, requestedBy: 'a test', priority: 50 };
  await world.client.workflow.getHandle(workflowId.gpuHost(agent.host)).signal(SIGNAL.requestTurn, request);
  await world.until(async () => (await world.hostState(agent)).turns.length === 1);
}
