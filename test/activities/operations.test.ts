import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createConcludeActivities } from '../../src/activities/conclude.js';
import { createControlActivities } from '../../src/activities/control.js';
import { createIdleActivities } from '../../src/activities/idle.js';
import { createObserveActivities } from '../../src/activities/observe.js';
import type { Conclusion } from '../../src/contracts/activities.js';
import { FAILURE } from '../../src/contracts/failures.js';
import { noIntents } from '../../src/domain/intents.js';
import { agentOnFakes, CARD } from '../agent/pieces.js';
import { policy } from '../domain/planner/hosts.js';
import { call, environment, failureOf, hasty, load, NAME, outcome, run, unload, VLM } from './calls.js';

afterEach(() => {
  vi.useRealTimers();
});

async function operating(change: Parameters<typeof agentOnFakes>[0] = {}) {
  const pieces = await agentOnFakes(change);
  const { agent } = pieces;
  return {
    ...pieces,
    ...createObserveActivities(agent),
    ...createConcludeActivities(agent),
    ...createIdleActivities(agent),
  };
}

const IDLE = { models: policy().models.map((model) => ({ ...model, idleTimeoutSeconds: 0.05 })) };

describe('observe', () => {
  it('enters, opens the gates that others left closed, and shows what is there', async () => {
    const one = await operating();
    one.ollama.put(NAME);
    one.agent.closeGate(VLM, 'a dead run');
    one.agent.closeGate('model/tiny', 'run-1');
    const view = await run(one.observe, call(load(), { epoch: 4 }));
    expect(view).toMatchObject({ mode: 'idle', instance: 'test', epochs: { [CARD]: 4, cpu: 4 } });
    expect(view.observation.tenants.find(({ id }) => id === VLM)?.state).toBe('resident');
    expect([one.agent.gates.isClosed(VLM), one.agent.gates.isClosed('model/tiny')]).toEqual([false, true]);
    expect(one.agent.fence.isHeld()).toBe(true);
  });

  it('can be repeated: nothing changes', async () => {
    const one = await operating();
    await run(one.observe, call(load()));
    expect((await run(one.observe, call(load()))).epochs).toEqual({ [CARD]: 1, cpu: 1 });
    expect(one.agent.fence.holders()).toHaveLength(1);
  });

  it('refuses an old turn with the epochs that it has seen', async () => {
    const one = await operating();
    await run(one.observe, call(load(), { epoch: 5 }));
    const stale = await failureOf(run(one.observe, call(load(), { run: 'old', epoch: 4 })));
    expect(stale).toMatchObject({ type: FAILURE.staleEpoch, details: [{ [CARD]: 5, cpu: 5 }] });
  });

  it('looks without a turn too, and takes none', async () => {
    const one = await operating();
    expect(await run(one.describeAgent)).toMatchObject({ epochs: {} });
    expect(one.agent.fence.isHeld()).toBe(false);
  });
});

describe('the idle time (M12)', () => {
  it('is what remains of the configured one; nothing for what is not there or never idle', async () => {
    const one = await operating();
    expect(await run(one.idleRemaining, VLM)).toBeNull();
    one.ollama.put(NAME);
    const remaining = (await run(one.idleRemaining, VLM)) ?? 0;
    expect(remaining).toBeGreaterThan(290_000);
    expect(remaining).toBeLessThanOrEqual(300_000);
    const models = policy().models.map((model) => ({ ...model, idleTimeoutSeconds: null }));
    const never = await operating({ policy: { models } });
    never.ollama.put(NAME);
    expect(await run(never.idleRemaining, VLM)).toBeNull();
  });

  it('closes the gate of an idle model, and of no other', async () => {
    const one = await operating({ policy: IDLE });
    await run(one.observe, call(load()));
    one.ollama.put(NAME);
    one.agent.uses.touch(VLM);
    expect(await run(one.closeIfIdle, { ...call(load()), tenant: VLM })).toMatchObject({ closed: false });
    expect(one.agent.gates.isClosed(VLM)).toBe(false);
    await vi.waitFor(() => expect(one.agent.uses.idleFor(VLM)).toBeGreaterThan(50));
    const use = one.agent.gates.use(VLM);
    expect(await run(one.closeIfIdle, { ...call(load()), tenant: VLM })).toEqual({ closed: false, remainingMs: 50 });
    use?.end();
    expect(await run(one.closeIfIdle, { ...call(load()), tenant: VLM })).toEqual({ closed: true, remainingMs: 0 });
    expect(one.agent.gates.use(VLM)).toBeNull();
    expect(await run(one.closeIfIdle, { ...call(load()), tenant: 'model/tiny' })).toEqual({
      closed: false,
      remainingMs: null,
    });
  });

  it('lets no request slip in between the check and the closing, in whatever moment it comes', async () => {
    const one = await operating({ policy: IDLE });
    await run(one.observe, call(load()));
    one.ollama.put(NAME);
    await vi.waitFor(() => expect(one.agent.uses.idleFor(VLM)).toBeGreaterThan(50));
    const seen = new Set<string>();
    for (let ticks = 0; ticks < 60; ticks += 1) {
      const closing = run(one.closeIfIdle, { ...call(load()), tenant: VLM });
      for (let n = 0; n < ticks; n += 1) await Promise.resolve();
      const use = one.agent.gates.use(VLM);
      const { closed } = await closing;
      // Whoever was let in keeps the model.
      expect(use !== null && closed).toBe(false);
      seen.add(closed ? 'closed' : 'used');
      use?.end();
      one.agent.openGates({ of: 'run-1' });
    }
    expect(seen).toEqual(new Set(['closed', 'used']));
  });

  it('does nothing for an old turn', async () => {
    const one = await operating({ policy: IDLE });
    one.ollama.put(NAME);
    await run(one.observe, call(load(), { epoch: 2 }));
    const stale = run(one.closeIfIdle, { ...call(load(), { run: 'old', epoch: 1 }), tenant: VLM });
    expect(await failureOf(stale)).toMatchObject({ type: FAILURE.staleEpoch });
    expect(one.agent.gates.isClosed(VLM)).toBe(false);
  });

  it('does nothing for an operation that looked in an earlier life of the agent (law 10)', async () => {
    const former = await operating({ policy: IDLE });
    await run(former.observe, call(load()));
    const one = await operating({ policy: IDLE, folder: former.folder });
    one.ollama.put(NAME);
    await vi.waitFor(() => expect(one.agent.uses.idleFor(VLM)).toBeGreaterThan(50));
    const early = run(one.closeIfIdle, { ...call(load()), tenant: VLM });
    expect(await failureOf(early)).toMatchObject({ type: FAILURE.premiseGone });
    expect(one.agent.gates.isClosed(VLM)).toBe(false);
    await run(one.observe, call(load()));
    expect(await run(one.closeIfIdle, { ...call(load()), tenant: VLM })).toMatchObject({ closed: true });
  });

  it('leaves no gate closed when its operation is terminated', async () => {
    const one = await operating({ policy: IDLE });
    await run(one.observe, call(load()));
    one.ollama.put(NAME);
    await vi.waitFor(() => expect(one.agent.uses.idleFor(VLM)).toBeGreaterThan(50));
    await run(one.closeIfIdle, { ...call(load()), tenant: VLM });
    await run(one.abandonOperation, call(load()).operation);
    expect(one.agent.gates.use(VLM)).not.toBeNull();
    expect(one.agent.fence.isHeld()).toBe(false);
    await run(one.abandonOperation, call(load()).operation);
  });

  it('answers with heartbeats: a hanging Ollama is no dead worker', async () => {
    const one = await operating({ policy: hasty({}) });
    let answer: () => void = () => {};
    one.ollama.resident = () => new Promise((resolve) => (answer = () => resolve([])));
    const env = environment();
    const beats = vi.fn();
    env.on('heartbeat', beats);
    const asked = env.run(one.idleRemaining, VLM);
    await vi.waitFor(() => expect(beats.mock.calls.length).toBeGreaterThan(1), { timeout: 3_000 });
    answer();
    expect(await asked).toBeNull();
  });
});

describe('the conclusion', () => {
  const conclusion = (change: Partial<Conclusion> = {}): Conclusion => ({
    operation: { workflowId: 'w/run-1', runId: 'run-1' },
    epochs: { [CARD]: 1 },
    goal: { kind: 'mode', mode: 'recording' },
    requestedBy: 'cli',
    outcome: outcome(),
    plan: { kind: 'plan', steps: [], because: '', displaced: [], rejected: [], expectedMs: 0 },
    mode: 'recording',
    phase: null,
    ...change,
  });

  it('writes the journal and the mode once, opens the gates, and leaves', async () => {
    const onIdle = vi.fn();
    const one = await operating({ onIdle });
    await run(one.observe, call(load()));
    one.agent.closeGate(VLM, 'run-1');
    for (let n = 0; n < 2; n += 1) await run(one.conclude, conclusion());
    const entries = one.agent.journal.read();
    expect(entries.map(({ type, subject }) => `${type} ${subject}`)).toEqual([
      'mode_changed recording',
      'operation mode',
    ]);
    expect(entries[0]).toMatchObject({ workflowId: 'w/run-1', details: { from: 'idle', to: 'recording' } });
    expect([one.agent.mode, one.agent.gates.isClosed(VLM), one.agent.fence.isHeld()]).toEqual([
      'recording',
      false,
      false,
    ]);
    expect(onIdle).toHaveBeenCalledOnce();
  });

  it('goes on where it was when it died between two entries', async () => {
    const one = await operating();
    const disk = one.agent.journal.append.bind(one.agent.journal);
    vi.spyOn(one.agent.journal, 'append').mockImplementation((entry) => {
      if (entry.type === 'operation') throw new Error('the process is killed here');
      return disk(entry);
    });
    await expect(run(one.conclude, conclusion())).rejects.toThrow('killed');
    vi.restoreAllMocks();
    await run(one.conclude, conclusion());
    expect(one.agent.journal.read().map(({ type }) => type)).toEqual(['mode_changed', 'operation']);
    expect(one.agent.mode).toBe('recording');
  });

  it('of an old turn is written down, but leaves the mode of the newer one', async () => {
    const one = await operating();
    await run(one.observe, call(load(), { run: 'run-2', epoch: 2 }));
    one.agent.setMode('autopilot');
    await run(one.conclude, conclusion());
    expect(one.agent.mode).toBe('autopilot');
    expect(one.agent.fence.holders().map(({ operation }) => operation.runId)).toEqual(['run-2']);
    expect(one.agent.journal.read().at(-1)?.type).toBe('operation');
  });

  it.each([
    [FAILURE.loadTimeout, 'load_failed'],
    [FAILURE.notReclaimed, 'unload_failed'],
    [FAILURE.unloadTimeout, 'unload_failed'],
  ])('of a step that failed for good sets the error (M19): %s', async (type, event) => {
    const one = await operating();
    const failure = { type, message: 'after 4 attempts', remedy: null };
    const failed = outcome({ status: 'failed', failure, failedTenant: VLM });
    await run(one.conclude, conclusion({ outcome: failed, mode: null }));
    expect(one.agent.journal.read().map((entry) => entry.type)).toEqual([event, 'operation']);
    expect(one.agent.errors.get(VLM)).toBe('after 4 attempts');
    expect(one.agent.mode).toBe('idle');
    const refused = outcome({ status: 'refused' });
    await run(one.conclude, conclusion({ operation: { workflowId: 'w', runId: 'r' }, outcome: refused, mode: null }));
    expect(one.agent.journal.read().at(-1)).toMatchObject({ type: 'operation', details: { runId: 'r' } });
  });

  it.each([
    [load(), 'load_failed'],
    [unload, 'unload_failed'],
  ])('of a step that Ollama did not answer says what was planned: %s', async (step, event) => {
    const one = await operating();
    const failure = { type: FAILURE.driverUnavailable, message: 'Ollama does not answer', remedy: null };
    const plan = { kind: 'plan' as const, steps: [step], because: '', displaced: [], rejected: [], expectedMs: 0 };
    const failed = outcome({ status: 'failed', failure, failedTenant: VLM });
    await run(one.conclude, conclusion({ outcome: failed, plan, mode: null }));
    expect(one.agent.journal.read().map((entry) => entry.type)).toEqual([event, 'operation']);
  });

  it('of an idle unload says so, if it unloaded', async () => {
    const one = await operating();
    const goal = { kind: 'idle-unload' as const, tenant: VLM };
    const stayed = { goal, mode: null, outcome: outcome({ goal }) };
    await run(one.conclude, conclusion(stayed));
    expect(one.agent.journal.read({ types: ['idle_unload'] })).toEqual([]);
    const proof = { beforeMb: {}, afterMb: {}, reclaimMs: 1, by: 'a test' };
    const step = { step: 's1', kind: 'unload' as const, tenant: VLM, ms: 1, attempts: 1, proof, acted: true };
    const operation = { workflowId: 'idle', runId: 'run-9' };
    await run(one.conclude, conclusion({ ...stayed, operation, outcome: outcome({ goal, steps: [step] }) }));
    expect(one.agent.journal.read({ types: ['idle_unload'] })).toMatchObject([{ subject: VLM, workflowId: 'idle' }]);
  });
});

describe('what the control worker does at the server', () => {
  function controlling() {
    const handle = { describe: vi.fn(), terminate: vi.fn() };
    const workflow = { signalWithStart: vi.fn(), getHandle: vi.fn(() => handle) };
    const workflowService = { getWorkflowExecutionHistoryReverse: vi.fn() };
    const client = { workflow, workflowService, options: { namespace: 'default' } } as unknown as Client;
    return { handle, workflow, workflowService, control: createControlActivities(client) };
  }
  const GOAL = { kind: 'mode' as const, mode: 'idle' };
  const holder = { workflowId: 'w', runId: 'r' };
  const gone = () => new WorkflowNotFoundError('no such workflow', 'w', 'r');

  it('looks at a holder by its run', async () => {
    const { control, handle, workflow } = controlling();
    handle.describe.mockResolvedValueOnce({ status: { name: 'RUNNING' } });
    expect(await control.describeHolder(holder)).toBe('running');
    expect(workflow.getHandle).toHaveBeenCalledWith('w', 'r');
    handle.describe.mockResolvedValueOnce({ status: { name: 'TERMINATED' } });
    expect(await control.describeHolder(holder)).toBe('closed');
    handle.describe.mockRejectedValueOnce(gone());
    expect(await control.describeHolder(holder)).toBe('not-found');
    handle.describe.mockRejectedValueOnce(new Error('unavailable'));
    await expect(control.describeHolder(holder)).rejects.toThrow('unavailable');
  });

  it('terminates a holder, once or twice', async () => {
    const { control, handle } = controlling();
    handle.terminate.mockResolvedValueOnce(undefined);
    await control.terminateHolder(holder, 'why');
    expect(handle.terminate).toHaveBeenCalledWith('why');
    handle.terminate.mockRejectedValueOnce(gone());
    await control.terminateHolder(holder, 'why');
    handle.terminate.mockRejectedValueOnce(new Error('unavailable'));
    await expect(control.terminateHolder(holder, 'why')).rejects.toThrow('unavailable');
  });

  it('begins an idle timer anew that no worker can go on with', async () => {
    const { control, handle, workflow, workflowService } = controlling();
    const raw = { pendingWorkflowTask: { attempt: 3 } };
    handle.describe.mockResolvedValue({ runId: 'r', status: { name: 'RUNNING' }, raw });
    workflowService.getWorkflowExecutionHistoryReverse.mockResolvedValue({
      history: { events: [{ workflowTaskFailedEventAttributes: { failure: { message: 'another history' } } }] },
    });
    await control.ensureIdleTimer('desk', VLM);
    expect(workflow.getHandle).toHaveBeenLastCalledWith(`idle/desk/${NAME}`, 'r');
    expect(handle.terminate).toHaveBeenCalledWith('no worker can go on with it: another history (3 tries)');
    const [first, second] = workflow.signalWithStart.mock.calls;
    expect(second).toEqual(first);
  });

  it('leaves alone an idle timer whose tasks may get on', async () => {
    const { control, handle, workflow, workflowService } = controlling();
    const failed = { workflowTaskFailedEventAttributes: { failure: { message: 'the worker ended' } } };
    const completed = { workflowTaskCompletedEventAttributes: {} };
    const answers = (attempt: number, ...events: object[]) => {
      const raw = { pendingWorkflowTask: { attempt } };
      handle.describe.mockResolvedValueOnce({ runId: 'r', status: { name: 'RUNNING' }, raw });
      workflowService.getWorkflowExecutionHistoryReverse.mockResolvedValueOnce({ history: { events } });
    };
    answers(2, failed, completed, failed);
    await control.ensureIdleTimer('desk', VLM);
    answers(1, failed, {}, failed);
    await control.ensureIdleTimer('desk', VLM);
    expect(handle.terminate).not.toHaveBeenCalled();
    // Signals came between its failures.
    answers(2, {}, failed, {}, {}, failed, completed);
    await control.ensureIdleTimer('desk', VLM);
    expect(handle.terminate).toHaveBeenCalledOnce();
    expect(workflow.signalWithStart).toHaveBeenCalledTimes(4);
  });

  it('hands a new chain of the host what the earlier one wanted, or was handed itself', async () => {
    const { control, handle, workflow } = controlling();
    const wanted = { ...noIntents('recording'), wanted: [VLM] };
    const request = { operation: holder, devices: 'all' as const, goal: GOAL, requestedBy: 'cli', priority: 50 };
    for (const memo of [{ state: { intents: wanted }, earlierIntents: noIntents() }, { earlierIntents: wanted }]) {
      handle.describe.mockResolvedValueOnce({ memo });
      await control.requestTurnOfNewHost('desk', request);
      expect(workflow.signalWithStart.mock.lastCall?.[1]).toMatchObject({
        memo: { host: 'desk', earlierIntents: wanted },
      });
    }
    handle.describe.mockRejectedValueOnce(gone());
    await control.requestTurnOfNewHost('desk', request);
    expect(workflow.signalWithStart.mock.lastCall?.[1]).toHaveProperty('memo', { host: 'desk' });
    handle.describe.mockRejectedValueOnce(new Error('unavailable'));
    await expect(control.requestTurnOfNewHost('desk', request)).rejects.toThrow('unavailable');
  });

  it('reaches host and idle timer in one step with their start', async () => {
    const { control, handle, workflow } = controlling();
    handle.describe.mockResolvedValue({ runId: 'r', status: { name: 'RUNNING' }, raw: {} });
    await control.ensureIdleTimer('desk', VLM);
    expect(workflow.signalWithStart).toHaveBeenCalledOnce();
    expect(workflow.signalWithStart).toHaveBeenLastCalledWith(
      'idleUnload',
      expect.objectContaining({
        workflowId: `idle/desk/${NAME}`,
        signal: 'lookAgain',
        args: [{ host: 'desk', tenant: VLM }],
      }),
    );
    const request = {
      operation: holder,
      devices: 'all' as const,
      goal: GOAL,
      requestedBy: 'cli',
      priority: 50,
    };
    await control.requestTurnOfNewHost('desk', request);
    expect(workflow.signalWithStart).toHaveBeenLastCalledWith(
      'gpuHost',
      expect.objectContaining({ workflowId: 'gpu-host/desk', signal: 'requestTurn', signalArgs: [request] }),
    );
  });
});
