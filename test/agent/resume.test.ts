import { describe, expect, it, vi } from 'vitest';
import { createEmbedderActivities } from '../../src/activities/embedder.js';
import { createModelActivities } from '../../src/activities/models.js';
import { createObserveActivities } from '../../src/activities/observe.js';
import { createServiceActivities } from '../../src/activities/services.js';
import { EdgeReporter } from '../../src/agent/edgeReporter.js';
import { resumeUnfinished } from '../../src/agent/resume.js';
import type { ManagedService } from '../../src/agent/services.js';
import { CPU, EMBEDDER } from '../../src/contracts/names.js';
import type { PlanStep } from '../../src/contracts/plan.js';
import { call, load, move, NAME, run, unload, VLM } from '../activities/calls.js';
import { absent, FakeDriver } from './fakeDriver.js';
import { agentOnFakes, CARD, FakeOllama, type Pieces } from './pieces.js';

const events = ({ agent }: Pieces) => agent.journal.read().map(({ type, workflowId }) => `${type} by ${workflowId}`);

const activitiesOf = ({ agent }: Pieces) => ({
  ...createModelActivities(agent),
  ...createEmbedderActivities(agent),
  ...createObserveActivities(agent),
});

/** The next life of an agent over the same host and the same folder. */
async function successor(former: Pieces): Promise<Pieces> {
  const next = await agentOnFakes({ folder: former.folder, ollama: former.ollama });
  next.card.stuckMb = former.card.stuckMb;
  next.card.show();
  return next;
}

/** A life that is killed: what it does never answers, and nothing of it is cleaned up. */
async function killedWhile(kind: 'unload' | 'load'): Promise<Pieces> {
  const former = await agentOnFakes({ ollama: new FakeOllama() });
  const { ollama } = former;
  const { observe, loadTenant, unloadTenant } = activitiesOf(former);
  if (kind === 'unload') ollama.put(NAME);
  former.card.show();
  await run(observe, call(load()));
  let reached = false;
  const never = (): Promise<void> => {
    reached = true;
    return new Promise(() => {});
  };
  ollama.onLoad = ollama.onUnload = never;
  void run(kind === 'load' ? loadTenant : unloadTenant, call(kind === 'load' ? load() : unload)).catch(() => undefined);
  await vi.waitFor(() => expect(reached).toBe(true));
  return former;
}

describe('an agent whose predecessor was killed in the middle of an effect', () => {
  it('tells of an unload once its memory is back, once, with what was used before (M6)', async () => {
    const former = await killedWhile('unload');
    former.ollama.drop(NAME);
    former.card.stuckMb = 10_752;
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    expect(next.agent.observation().tenants.find(({ id }) => id === VLM)).toMatchObject({
      state: 'unloading',
      holdings: [{ device: CARD, mb: 10_752 }],
    });
    next.card.show();
    expect(events(next)).toEqual([]);
    next.card.stuckMb = 0;
    await vi.waitFor(() => expect(events(next)).toEqual([`model_unloaded by ${call(unload).operation.workflowId}`]));
    expect(next.agent.journal.read()[0]?.details).toMatchObject({
      beforeMb: { [CARD]: 11_552 },
      afterMb: { [CARD]: 800 },
      by: expect.stringContaining('used memory dropped by 10752 MB'),
    });
    expect([VLM, EMBEDDER].map((tenant) => next.agent.unfinished.of(tenant))).toEqual([null, null]);
    next.card.show();
    expect(events(next)).toHaveLength(1);
  });

  it('leaves the telling to the operation that goes on with the unload', async () => {
    const former = await killedWhile('unload');
    former.ollama.drop(NAME);
    former.card.stuckMb = 10_752;
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    const { observe, unloadTenant } = activitiesOf(next);
    await run(observe, call(unload));
    const unloading = run(unloadTenant, call(unload));
    next.card.stuckMb = 0;
    expect(await unloading).toMatchObject({ acted: true, proof: { beforeMb: { [CARD]: 11_552 } } });
    expect(events(next)).toEqual([`model_unloaded by ${call(unload).operation.workflowId}`]);
  });

  it('forgets an unload that was not carried out', async () => {
    const next = await successor(await killedWhile('unload'));
    await resumeUnfinished(next.agent);
    expect([VLM, EMBEDDER].map((tenant) => next.agent.unfinished.of(tenant))).toEqual([null, null]);
    next.card.show();
    expect(events(next)).toEqual([]);
  });

  it('tells of a load when a probe has proven it, as a step that was done', async () => {
    const former = await killedWhile('load');
    former.ollama.put(NAME);
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    expect(events(next)).toEqual([]);
    const { observe, loadTenant } = activitiesOf(next);
    const view = await run(observe, call(load()));
    expect(view.observation.tenants.find(({ id }) => id === VLM)).toMatchObject({ state: 'resident', proven: false });
    const done = await run(loadTenant, call(load({ confirms: true, needsMb: 0 })));
    expect(done).toMatchObject({ acted: true, proof: { beforeMb: { [CARD]: 800 }, by: 'it answers a probe' } });
    expect(events(next)).toEqual([`model_loaded by ${call(load()).operation.workflowId}`]);
  });

  it('forgets a load that was broken off', async () => {
    const next = await successor(await killedWhile('load'));
    await resumeUnfinished(next.agent);
    expect([VLM, EMBEDDER].map((tenant) => next.agent.unfinished.of(tenant))).toEqual([null, null]);
  });

  it('tells of a move whose new process it adopts', async () => {
    const former = await agentOnFakes();
    former.agent.unfinished.begin(EMBEDDER, {
      kind: 'move',
      workflowId: 'mode/a',
      beforeMb: { [CARD]: 1_300 },
      from: CARD,
      to: CPU,
      sequence: 0,
      reclaim: [{ gpu: CARD, beforeMb: 1_300, heldMb: 500, processesBefore: [[900, 500]], ownPids: [900] }],
    });
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    await vi.waitFor(() => expect(events(next)).toEqual(['device_changed by mode/a']));
    const { observe, moveEmbedder } = activitiesOf(next);
    await run(observe, call(move(CPU)));
    expect(await run(moveEmbedder, call(move(CPU)))).toMatchObject({ acted: false });
    expect(events(next)).toHaveLength(1);
  });

  it('tells of no move whose embedder fails its probe (M8)', async () => {
    const former = await agentOnFakes();
    const begun = {
      kind: 'move' as const,
      sequence: 0,
      workflowId: 'mode/a',
      beforeMb: {},
      from: CARD,
      to: CPU,
      reclaim: [],
    };
    former.agent.unfinished.begin(EMBEDDER, begun);
    const next = await successor(former);
    next.launcher.vectorOf = () => [3, 4];
    await resumeUnfinished(next.agent);
    expect(events(next)).toEqual(['warning by null']);
    expect([VLM, EMBEDDER].map((tenant) => next.agent.unfinished.of(tenant))).toEqual([null, null]);
  });

  it('tells nothing twice: killed between the event and the end of its entry', async () => {
    const former = await agentOnFakes();
    const begun = { kind: 'unload' as const, workflowId: 'model/a', sequence: 0, beforeMb: {}, from: null, to: null };
    former.agent.unfinished.begin(VLM, { ...begun, reclaim: [] });
    former.agent.journal.append({ type: 'model_unloaded', subject: VLM, message: 'told', workflowId: 'model/a' });
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    expect(events(next)).toEqual(['model_unloaded by model/a']);
    expect(next.agent.unfinished.of(VLM)).toBeNull();
  });

  it('takes the silence of Ollama for no answer, and resumes once it is back (law 1)', async () => {
    const former = await killedWhile('unload');
    former.ollama.isAway = true;
    const next = await successor(former);
    await resumeUnfinished(next.agent);
    expect(next.agent.unfinished.of(VLM)).not.toBeNull();
    former.ollama.isAway = false;
    await next.agent.watch.look();
    // It was there all the time.
    await vi.waitFor(() => expect(next.agent.unfinished.of(VLM)).toBeNull());
    expect(events(next)).toEqual([]);
  });
});

describe('a service that a killed agent was starting', () => {
  const SERVICE = 'service/one';
  const policy = {
    services: [
      {
        name: 'one',
        driver: 'native' as const,
        declaredMb: 0,
        priority: 50,
        pinned: false,
        startTimeoutSeconds: 10,
        stopTimeoutSeconds: 5,
      },
    ],
  };
  const start: PlanStep = { ...load({ devices: [CPU], needsMb: 0 }), kind: 'load', tenant: SERVICE } as PlanStep;
  /** What it answers is the test's to say. */
  const serviceOn = (driver: FakeDriver, answers: { ok: boolean }): ManagedService => ({
    name: 'one',
    driver,
    probe: { check: () => Promise.resolve({ ok: answers.ok, detail: 'it answers', ms: 1 }) },
    health: { startPeriodMs: 60_000, intervalMs: 10, failuresToUnhealthy: 2, successesToReady: 1 },
    usesGpu: false,
  });
  const news = ({ agent }: Pieces) => {
    const report = new EdgeReporter(
      agent,
      () => Promise.resolve(),
      () => {},
      (tenant) => agent.isWorkedAt(tenant),
    );
    agent.services.onNews((one) => report.service(one));
  };

  async function killedWhileStarting() {
    const driver = new FakeDriver();
    const former = await agentOnFakes({ policy, services: [serviceOn(driver, { ok: false })] });
    const { observe, startService } = { ...activitiesOf(former), ...createServiceActivities(former.agent) };
    await run(observe, call(start));
    void run(startService, call(start)).catch(() => undefined);
    await vi.waitFor(() => expect(driver.sight.state).toBe('running'));
    return { driver, folder: former.folder };
  }

  async function successorOf({ driver, folder }: { driver: FakeDriver; folder: string }, answers = { ok: true }) {
    const next = await agentOnFakes({ policy, folder, services: [serviceOn(driver, answers)] });
    news(next);
    await next.agent.services.look(AbortSignal.timeout(1_000));
    await resumeUnfinished(next.agent);
    return next;
  }

  it('is told of once it is ready, once, with the operation that began it', async () => {
    const former = await killedWhileStarting();
    const answers = { ok: false };
    const next = await successorOf(former, answers);
    expect(events(next)).toEqual([]);
    answers.ok = true;
    await vi.waitFor(() => expect(events(next)).toEqual(['service_started by w/run-1']));
    expect(next.agent.journal.read()[0]?.details).toMatchObject({ by: expect.stringContaining('was killed') });
    expect(next.agent.unfinished.of(SERVICE)).toBeNull();
    const another = await successorOf(former);
    expect(events(another)).toEqual(['service_started by w/run-1']);
  });

  it('is told of by the operation that goes on with it, where that comes first', async () => {
    const former = await killedWhileStarting();
    const answers = { ok: false };
    const next = await successorOf(former, answers);
    const { observe, startService } = { ...activitiesOf(next), ...createServiceActivities(next.agent) };
    await run(observe, call(start));
    const starting = run(startService, call(start));
    answers.ok = true;
    expect(await starting).toMatchObject({ acted: true });
    expect(events(next)).toEqual(['service_started by w/run-1']);
    expect(former.driver.runs).toBe(1);
  });

  it('is forgotten when it has ended', async () => {
    const former = await killedWhileStarting();
    former.driver.sight = absent;
    const next = await successorOf(former);
    expect(events(next)).toEqual([]);
    expect(next.agent.unfinished.of(SERVICE)).toBeNull();
  });
});
