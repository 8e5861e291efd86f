import { ApplicationFailure, WorkflowFailedError } from '@temporalio/client';
import { describe, expect, it, vi } from 'vitest';
import { type LoadOnDemand, type LoadProgress, OnDemand } from '../../src/agent/onDemand.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { agentOnFakes, type Pieces } from './pieces.js';

const NAME = 'qwen3-vl:8b';
const A = `model/${NAME}`;
const never = new AbortController().signal;
const done = {} as OperationOutcome;

/** Loads as an operation does: the model is there, and its gate is open, before the outcome. */
function loads({ agent, ollama }: Pieces, how: () => Promise<void> = () => Promise.resolve()) {
  const load = vi.fn<LoadOnDemand>(async (tenant) => ({
    workflowId: `w/${tenant}`,
    outcome: (async () => {
      await how();
      ollama.put(NAME);
      await agent.watch.look();
      agent.gates.open(tenant);
      return done;
    })(),
  }));
  return { load, onDemand: new OnDemand(agent, load) };
}

describe('a request for a model (M13)', () => {
  it('uses a resident model at once', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    await pieces.agent.watch.look();
    const { load, onDemand } = loads(pieces);
    const told: LoadProgress[] = [];
    const use = await onDemand.acquire(NAME, never, (progress) => told.push(progress));
    expect(load).not.toHaveBeenCalled();
    expect(told.map(({ state }) => state)).toEqual(['ready']);
    expect(pieces.agent.gates.uses(A)).toBe(1);
    use.end();
    expect(pieces.agent.uses.lastUse(A)).not.toBeNull();
  });

  it('loads an absent one; requests at the same time share the load', async () => {
    const pieces = await agentOnFakes();
    const { load, onDemand } = loads(pieces);
    const told: LoadProgress[] = [];
    const uses = await Promise.all(
      [1, 2, 3].map(() => onDemand.acquire(NAME, never, (progress) => told.push(progress))),
    );
    expect(load).toHaveBeenCalledOnce();
    expect(told.filter(({ state }) => state === 'loading')).toHaveLength(3);
    expect(told[0]?.workflowId).toBe(`w/${A}`);
    expect(pieces.agent.gates.uses(A)).toBe(3);
    for (const use of uses) use.end();
    pieces.ollama.drop(NAME);
    await pieces.agent.watch.look();
    (await onDemand.acquire(NAME, never, () => {})).end();
    expect(load).toHaveBeenCalledTimes(2);
  });

  it('does not begin on a model that is about to go: it waits for the next load (pain 1)', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    await pieces.agent.watch.look();
    pieces.agent.closeGate(A, 'an unload');
    const { load, onDemand } = loads(pieces);
    (await onDemand.acquire(NAME, never, () => {})).end();
    expect(load).toHaveBeenCalledOnce();
  });

  it('does not use one that is half in system memory, but loads it anew', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME, { sizeMb: 10_000, vramMb: 4_000 });
    await pieces.agent.watch.look();
    const { load, onDemand } = loads(pieces);
    (await onDemand.acquire(NAME, never, () => {})).end();
    expect(load).toHaveBeenCalledOnce();
  });

  it('gives up when the model is taken away again and again (pain 2)', async () => {
    const pieces = await agentOnFakes();
    const load = vi.fn<LoadOnDemand>(() => Promise.resolve({ workflowId: 'w', outcome: Promise.resolve(done) }));
    await expect(new OnDemand(pieces.agent, load).acquire(NAME, never, () => {})).rejects.toThrow(/vramflow history/);
    expect(load).toHaveBeenCalledTimes(3);
  });

  it('ends with what the load ended with, and the next request tries anew', async () => {
    const pieces = await agentOnFakes();
    let fails = true;
    const { load, onDemand } = loads(pieces, () => (fails ? Promise.reject(new Error('no room')) : Promise.resolve()));
    const failed = await Promise.allSettled([1, 2].map(() => onDemand.acquire(NAME, never, () => {})));
    expect(failed.map((one) => one.status)).toEqual(['rejected', 'rejected']);
    fails = false;
    (await onDemand.acquire(NAME, never, () => {})).end();
    expect(load).toHaveBeenCalledTimes(2);
    expect(pieces.agent.gates.uses(A)).toBe(0);
  });

  it('is in use from the end of its load on: nobody takes it before its request has begun (pain 7)', async () => {
    const pieces = await agentOnFakes();
    const usesOf = () => pieces.agent.observation().tenants.find(({ id }) => id === A)?.uses;
    const { load } = loads(pieces);
    let atTheEnd: number | undefined;
    const asked = vi.fn<LoadOnDemand>(async (tenant) => {
      const { workflowId, outcome } = await load(tenant);
      return { workflowId, outcome: outcome.finally(() => (atTheEnd = usesOf())) };
    });
    (await new OnDemand(pieces.agent, asked).acquire(NAME, never, () => {})).end();
    expect(atTheEnd).toBe(1);
    expect(usesOf()).toBe(0);
  });

  const refused = (code: string) => {
    const outcome = { refusal: { code, message: 'model/x holds all and is in use' } };
    return new WorkflowFailedError('failed', ApplicationFailure.nonRetryable('m', 'Refused', outcome), 'TIMEOUT');
  };

  it('waits, visibly, while the memory that it needs is in use, and looks again when that has ended (pain 7)', async () => {
    const pieces = await agentOnFakes();
    const other = pieces.agent.gates.use('model/x');
    const { load, onDemand } = loads(pieces, () =>
      pieces.agent.gates.uses('model/x') > 0 ? Promise.reject(refused('in-use')) : Promise.resolve(),
    );
    const told: string[] = [];
    const waiting = onDemand.acquire(NAME, never, ({ message }) => told.push(message));
    await vi.waitFor(() => expect(told.at(-1)).toMatch(/waits for room: model\/x holds all and is in use/));
    expect(load).toHaveBeenCalledOnce();
    other?.end();
    (await waiting).end();
    expect(load).toHaveBeenCalledTimes(2);
  });

  it('is refused when that goes on for longer than 30 s, and at once for any other reason', async () => {
    const pieces = await agentOnFakes();
    const outranked = loads(pieces, () => Promise.reject(refused('holder-outranks')));
    await expect(outranked.onDemand.acquire(NAME, never, () => {})).rejects.toThrow(WorkflowFailedError);
    expect(outranked.load).toHaveBeenCalledOnce();
    let ms = 0;
    vi.spyOn(pieces.agent, 'now').mockImplementation(() => (ms += 20_000));
    const used = loads(pieces, () => Promise.reject(refused('in-use')));
    // Every wait is woken at once.
    const wake = setInterval(() => pieces.agent.gates.unused.wake(), 5);
    await expect(used.onDemand.acquire(NAME, never, () => {})).rejects.toThrow(WorkflowFailedError);
    clearInterval(wake);
    expect(used.load).toHaveBeenCalledTimes(2);
  });

  it('says so when the load cannot even be started', async () => {
    const pieces = await agentOnFakes();
    const onDemand = new OnDemand(pieces.agent, () => Promise.reject(new Error('Temporal is away')));
    for (let n = 0; n < 2; n += 1) {
      await expect(onDemand.acquire(NAME, never, () => {})).rejects.toThrow('Temporal is away');
    }
  });

  it('lets one caller leave; the load goes on for the others', async () => {
    const pieces = await agentOnFakes();
    let go: () => void = () => {};
    const { load, onDemand } = loads(pieces, () => new Promise((resolve) => (go = resolve)));
    const leaves = new AbortController();
    const left = onDemand.acquire(NAME, leaves.signal, () => {});
    const stays = onDemand.acquire(NAME, never, () => {});
    leaves.abort(new Error('the client left'));
    await expect(left).rejects.toThrow('the client left');
    go();
    (await stays).end();
    expect(load).toHaveBeenCalledOnce();
    expect(pieces.agent.gates.uses(A)).toBe(0);
  });
});
