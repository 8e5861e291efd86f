import { describe, expect, it, vi } from 'vitest';
import { createModelActivities } from '../../src/activities/models.js';
import { createObserveActivities } from '../../src/activities/observe.js';
import { OllamaError } from '../../src/adapters/ollama/ollama.js';
import { FAILURE } from '../../src/contracts/failures.js';
import { agentOnFakes, CARD, type Pieces } from '../agent/pieces.js';
import { call, environment, failureOf, hasty, load, NAME, run, unload, VLM } from './calls.js';

async function models(change: Parameters<typeof agentOnFakes>[0] = {}) {
  const pieces = await agentOnFakes(change);
  const activities = { ...createModelActivities(pieces.agent), ...createObserveActivities(pieces.agent) };
  // As each operation does: it looks first.
  await run(activities.observe, call(load()));
  return { ...pieces, ...activities };
}

const types = ({ agent }: Pieces) => agent.journal.read().map(({ type }) => type);

/** Ends only when its signal does, as Ollama's client does it. */
const untilAborted = (_: string, signal: AbortSignal): Promise<void> =>
  new Promise((_resolve, reject) => {
    const kind = () => ((signal.reason as Error).name === 'TimeoutError' ? 'timeout' : 'aborted');
    signal.addEventListener('abort', () => reject(new OllamaError(kind(), 'The request ended', 'Ask again.')));
  });

describe('a load', () => {
  it('is proven: a probe answered and all of it is on the GPU (law 2)', async () => {
    const one = await models();
    const done = await run(one.loadTenant, call(load()));
    expect(done).toMatchObject({ step: 's1', kind: 'load', tenant: VLM, attempts: 1, acted: true });
    expect(done.proof).toMatchObject({
      beforeMb: { [CARD]: 800 },
      afterMb: { [CARD]: 11_552 },
      by: 'a probe answered, size_vram is size',
    });
    expect(one.ollama.calls).toEqual([`load ${NAME}`, `probe ${NAME}`]);
    expect(types(one)).toEqual(['model_loaded']);
    expect(one.agent.learned.get(VLM, [CARD])).toMatchObject({ chargeMb: 10_752, loadMs: expect.any(Number) });
    expect(one.agent.uses.lastUse(VLM)).not.toBeNull();
  });

  it('tells of a model that takes far more than is declared, once', async () => {
    const one = await models();
    one.ollama.loadedMb = 14_000;
    for (const round of [1, 2, 3]) {
      one.ollama.drop(NAME);
      one.card.show();
      await run(one.loadTenant, call(load(), { round }));
    }
    const drifts = one.agent.journal.read({ types: ['footprint_drift'] });
    expect(drifts).toMatchObject([{ subject: VLM, details: { seenMb: 14_000, gpus: [CARD] } }]);
  });

  it('of what is there already loads nothing (M9, law 4)', async () => {
    const one = await models();
    await run(one.loadTenant, call(load()));
    one.ollama.calls.splice(0);
    expect(await run(one.loadTenant, call(load(), { round: 2 }))).toMatchObject({ acted: false });
    expect(one.ollama.calls).toEqual([`probe ${NAME}`]);
    expect(types(one)).toEqual(['model_loaded']);
  });

  it('joins the same attempt when it is repeated', async () => {
    const one = await models();
    let go: () => void = () => {};
    one.ollama.onLoad = () =>
      new Promise((resolve) => {
        go = () => {
          one.ollama.put(NAME);
          resolve();
        };
      });
    const first = run(one.loadTenant, call(load()));
    await vi.waitFor(() => expect(one.ollama.calls).toHaveLength(1));
    const second = run(one.loadTenant, call(load()));
    expect(one.agent.isWorkedAt(VLM)).toBe(true);
    go();
    expect(await second).toEqual(await first);
    expect(one.ollama.calls).toEqual([`load ${NAME}`, `probe ${NAME}`]);
    expect(one.agent.isWorkedAt(VLM)).toBe(false);
  });

  it('beats while it works', async () => {
    const one = await models();
    const env = environment();
    const beats = vi.fn();
    env.on('heartbeat', beats);
    one.ollama.onLoad = async () => {
      await vi.waitFor(() => expect(beats.mock.calls.length).toBeGreaterThan(1), { timeout: 3_000 });
      one.ollama.put(NAME);
    };
    await env.run(one.loadTenant, call(load()));
    const count = beats.mock.calls.length;
    expect(count).toBeGreaterThan(1);
  });

  it.each<[string, OllamaError, string]>([
    ['Ollama away', new OllamaError('unavailable', 'm', 'r'), FAILURE.driverUnavailable],
    ['no such model', new OllamaError('model-missing', 'm', 'ollama pull it'), FAILURE.modelMissing],
    ['no room', new OllamaError('out-of-memory', 'm', 'r'), FAILURE.loadFailed],
    ['an error of Ollama', new OllamaError('http', 'm', 'r', { status: 500 }), FAILURE.loadFailed],
    ['no Ollama at all', new OllamaError('protocol', 'm', 'r'), FAILURE.loadFailed],
  ])('fails by name: %s', async (_, error, type) => {
    const one = await models();
    one.ollama.onLoad = () => Promise.reject(error);
    const failed = await failureOf(run(one.loadTenant, call(load())));
    expect(failed).toMatchObject({ type, message: error.message, details: [{ remedy: error.remedy }] });
    expect(types(one)).toEqual([]);
    expect(one.agent.isWorkedAt(VLM)).toBe(false);
  });

  it('fails when the model does not answer a probe, or is not listed: a word is no proof', async () => {
    const deaf = await models();
    deaf.ollama.onProbe = () => {
      deaf.ollama.drop(NAME);
      return Promise.reject(new OllamaError('protocol', 'the answer holds no token', 'r'));
    };
    expect(await failureOf(run(deaf.loadTenant, call(load())))).toMatchObject({ type: FAILURE.loadFailed });
    const lost = await models();
    lost.ollama.onLoad = () => Promise.resolve();
    const failed = await failureOf(run(lost.loadTenant, call(load())));
    expect(failed).toMatchObject({ type: FAILURE.loadFailed, message: expect.stringContaining('does not list it') });
  });

  it('fails when part of it came to system memory, unless that is allowed (pain 8)', async () => {
    const one = await models();
    one.ollama.onLoad = () => Promise.resolve(one.ollama.put(NAME, { vramMb: 4_000 }));
    const failed = await failureOf(run(one.loadTenant, call(load())));
    expect(failed).toMatchObject({
      type: FAILURE.partialOffload,
      message: expect.stringContaining('4000 of 10752 MB'),
    });
    one.ollama.drop(NAME);
    const allowed = await run(one.loadTenant, call(load({ allowCpu: true, needsMb: 0 }), { round: 2 }));
    expect(allowed.proof.by).toContain('on the CPU, as allowed');
  });

  it('does not begin when the room is gone, or nobody knows it', async () => {
    const one = await models();
    one.card.strangers = [{ uuid: CARD, pid: 9, name: 'game', usedMb: 15_000 }];
    one.card.show();
    const gone = await failureOf(run(one.loadTenant, call(load())));
    expect(gone).toMatchObject({ type: FAILURE.premiseGone, message: expect.stringContaining('8764 MB are') });
    one.card.readable = false;
    one.card.show();
    expect(await failureOf(run(one.loadTenant, call(load(), { round: 2 })))).toMatchObject({
      type: FAILURE.premiseGone,
    });
    expect(one.ollama.calls).toEqual([]);
  });

  it('is cancelled at its time (M19)', async () => {
    const one = await models({ policy: hasty({ load: 0.05 }) });
    one.ollama.onLoad = untilAborted;
    const failed = await failureOf(run(one.loadTenant, call(load())));
    expect(failed).toMatchObject({ type: FAILURE.loadTimeout, message: expect.stringContaining('0.05 s') });
  });

  it('that was given up says nothing about the model: it is none of its attempts', async () => {
    const one = await models();
    const env = environment();
    one.ollama.onLoad = (model, signal) => {
      env.cancel('WORKER_SHUTDOWN');
      return signal.aborted
        ? Promise.reject(new OllamaError('aborted', 'The request ended', 'Ask again.'))
        : untilAborted(model, signal);
    };
    const failed = await failureOf(env.run(one.loadTenant, call(load())));
    expect(failed).toMatchObject({ type: FAILURE.premiseGone });
    expect(one.agent.isWorkedAt(VLM)).toBe(false);
  });

  it('is ended by a newer turn, and an older one does not begin (law 3)', async () => {
    const one = await models();
    one.ollama.onLoad = untilAborted;
    const older = failureOf(run(one.loadTenant, call(load(), { epoch: 1 })));
    await vi.waitFor(() => expect(one.ollama.calls).toHaveLength(1));
    await run(one.observe, call(load(), { run: 'run-2', epoch: 2 }));
    expect(await older).toMatchObject({ type: FAILURE.fenced });
    const stale = await failureOf(run(one.loadTenant, call(load(), { epoch: 1, round: 2 })));
    expect(stale).toMatchObject({ type: FAILURE.staleEpoch, details: [{ [CARD]: 2, cpu: 2 }] });
    expect(await failureOf(run(one.observe, call(load(), { epoch: 1 })))).toMatchObject({ type: FAILURE.staleEpoch });
    expect(one.ollama.calls).toHaveLength(1);
  });

  it('refuses another kind of step', async () => {
    const one = await models();
    const failed = await failureOf(run(one.loadTenant, call(unload)));
    expect(failed).toMatchObject({ type: FAILURE.loadFailed, message: 'a unload step came to loadTenant' });
    expect(one.ollama.calls).toEqual([]);
  });
});

describe('an unload', () => {
  async function loaded(change: Parameters<typeof agentOnFakes>[0] = {}) {
    const one = await models(change);
    one.ollama.put(NAME);
    await one.agent.watch.look();
    one.card.show();
    return one;
  }

  it('is proven: the memory is back, in figures (M6)', async () => {
    const one = await loaded();
    const done = await run(one.unloadTenant, call(unload));
    expect(done).toMatchObject({ kind: 'unload', acted: true });
    expect(done.proof).toMatchObject({
      beforeMb: { [CARD]: 11_552 },
      afterMb: { [CARD]: 800 },
      reclaimMs: expect.any(Number),
      by: 'used memory dropped by 10752 MB',
    });
    const { stopMs, ...others } = one.agent.learned.get(VLM, [CARD]);
    expect(stopMs).toBeGreaterThan(0);
    // Nobody of ours loaded it.
    expect(others).toEqual({ declaredMb: 10_752 });
    expect(one.agent.observation().tenants.find(({ id }) => id === VLM)).toMatchObject({ stopMs });
    expect(types(one)).toEqual(['model_unloaded']);
    expect(one.agent.journal.read()[0]?.details).toMatchObject({
      beforeMb: { [CARD]: 11_552 },
      afterMb: { [CARD]: 800 },
    });
  });

  it('of what is not there unloads nothing (M9, law 4)', async () => {
    const one = await models();
    expect(await run(one.unloadTenant, call(unload))).toMatchObject({ acted: false });
    expect([one.ollama.calls, types(one)]).toEqual([[], []]);
  });

  it('lets nothing begin any more, and waits for what is in flight (law 10, pain 1)', async () => {
    const one = await loaded();
    const use = one.agent.gates.use(VLM);
    const unloading = run(one.unloadTenant, call(unload));
    await vi.waitFor(() =>
      expect(one.agent.observation().tenants.find(({ id }) => id === VLM)?.state).toBe('unloading'),
    );
    expect(one.agent.gates.use(VLM)).toBeNull();
    expect(one.ollama.calls).toEqual([]);
    use?.end();
    await unloading;
    expect(use?.signal.aborted).toBe(false);
    expect(one.ollama.calls).toEqual([`unload ${NAME}`]);
  });

  it('cuts off what outlasts its share of the time, and is in time still (M4)', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.501 }) });
    const use = one.agent.gates.use(VLM);
    use?.signal.addEventListener('abort', () => use.end());
    expect(await run(one.unloadTenant, call(unload))).toMatchObject({ acted: true });
    expect(use?.signal.aborted).toBe(true);
  });

  it('fails when a request in flight does not even end when it is cut off', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.1 }) });
    one.agent.gates.use(VLM);
    expect(await failureOf(run(one.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.unloadTimeout });
    expect(one.ollama.calls).toEqual([]);
  });

  it('fails when Ollama lists the model still', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.2 }) });
    one.ollama.onUnload = () => Promise.resolve();
    expect(await failureOf(run(one.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.unloadTimeout });
    expect(one.agent.reclaims.unproven(VLM)).toEqual([]);
  });

  it('that was cut short is told of when Ollama drops the model after all, once its memory is back', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.2 }) });
    one.ollama.onUnload = () => Promise.resolve();
    expect(await failureOf(run(one.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.unloadTimeout });
    expect(types(one)).toEqual([]);
    one.ollama.drop(NAME);
    await one.agent.watch.look();
    await vi.waitFor(() => expect(types(one)).toEqual(['model_unloaded']));
    expect(one.agent.journal.read()[0]?.details['by']).toMatch(/dropped by 10752 MB; its attempt had been cut short/);
  });

  it('that was cut short leaves a promise to drop the model: it has to prove itself again', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.2 }) });
    one.agent.markProven(VLM);
    one.ollama.onUnload = () => Promise.resolve();
    await failureOf(run(one.unloadTenant, call(unload)));
    expect(one.agent.watch.resident()).toMatchObject([{ id: VLM, proven: false }]);
    one.ollama.calls.splice(0);
    await run(one.loadTenant, call(load({ confirms: true, needsMb: 0 }), { round: 3 }));
    expect(one.ollama.calls).toEqual([`probe ${NAME}`]);
    expect(one.agent.watch.resident()).toMatchObject([{ id: VLM, proven: true }]);
    expect(one.agent.unfinished.of(VLM)).toBeNull();
  });

  it('fails when the memory does not come back, and goes on with the proof at the next attempt (pain 4)', async () => {
    const one = await loaded({ policy: hasty({ unload: 0.2 }) });
    one.ollama.onUnload = () => {
      one.ollama.drop(NAME);
      one.card.stuckMb = 10_752;
      return Promise.resolve();
    };
    const failed = await failureOf(run(one.unloadTenant, call(unload)));
    expect(failed).toMatchObject({
      type: FAILURE.notReclaimed,
      message: expect.stringContaining(`10752 MB on ${CARD}`),
    });
    expect(one.agent.observation().devices[0]?.quarantine).toContain('did not come back');
    expect(types(one)).toEqual([]);
    one.card.stuckMb = 0;
    // Told once: by the next attempt, or by who follows the proof.
    await run(one.unloadTenant, call(unload, { round: 2 }));
    await vi.waitFor(() => expect(types(one)).toEqual(['model_unloaded']));
    expect(one.agent.journal.read()[0]?.details).toMatchObject({
      beforeMb: { [CARD]: 11_552 },
      by: expect.stringContaining('used memory dropped by 10752 MB'),
    });
    expect(one.ollama.calls).toEqual([`unload ${NAME}`]);
    expect(one.agent.observation().devices[0]?.quarantine).toBeNull();
  });

  it('never succeeds when the memory settled without coming back', async () => {
    const one = await loaded();
    one.ollama.onUnload = () => {
      one.ollama.drop(NAME);
      one.card.stuckMb = 10_752;
      return Promise.resolve();
    };
    const unloading = failureOf(run(one.unloadTenant, call(unload)));
    await vi.waitFor(() => expect(one.agent.reclaims.unproven(VLM)).toHaveLength(1));
    // As Reclaims does it once the memory has settled.
    one.agent.reclaims.cancel(VLM);
    expect(await unloading).toMatchObject({ type: FAILURE.notReclaimed });
  });

  it('that is cut short by a newer turn quarantines nothing: the memory is on its way', async () => {
    const one = await loaded();
    one.ollama.onUnload = () => {
      one.ollama.drop(NAME);
      one.card.stuckMb = 10_752;
      return Promise.resolve();
    };
    const older = failureOf(run(one.unloadTenant, call(unload)));
    await vi.waitFor(() => expect(one.agent.reclaims.unproven(VLM)).toHaveLength(1));
    const view = await run(one.observe, call(unload, { run: 'run-2', epoch: 2 }));
    expect(await older).toMatchObject({ type: FAILURE.fenced });
    expect(view.observation.devices[0]?.quarantine).toBeNull();
    expect(view.observation.tenants.find(({ id }) => id === VLM)).toMatchObject({ holdings: [{ device: CARD }] });
    // The gate that the older one had closed is open again.
    expect(one.agent.gates.isClosed(VLM)).toBe(false);
  });

  it('begins with a new picture after a request that failed', async () => {
    const one = await loaded();
    one.card.strangers = [{ uuid: CARD, pid: 9, name: 'game', usedMb: 9_000 }];
    one.ollama.onUnload = () => Promise.reject(new OllamaError('http', 'm', 'r'));
    expect(await failureOf(run(one.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.unloadFailed });
    expect(one.agent.reclaims.unproven(VLM)).toEqual([]);
    one.card.strangers = [];
    one.card.show();
    one.ollama.onUnload = (model) => Promise.resolve(one.ollama.drop(model));
    const done = await run(one.unloadTenant, call(unload, { round: 2 }));
    expect(done.proof).toMatchObject({ beforeMb: { [CARD]: 11_552 }, by: 'used memory dropped by 10752 MB' });
  });

  it('is no success while Ollama does not answer: it lists nothing then (law 1)', async () => {
    const one = await models();
    one.ollama.isAway = true;
    expect(await failureOf(run(one.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.driverUnavailable });
    const there = await loaded();
    there.ollama.isAway = true;
    expect(await failureOf(run(there.unloadTenant, call(unload)))).toMatchObject({ type: FAILURE.driverUnavailable });
  });

  it('says that nothing is measured where footprints are declared (P9)', async () => {
    const one = await loaded({ readerKind: 'declared' });
    const done = await run(one.unloadTenant, call(unload));
    expect(done.proof).toMatchObject({ afterMb: {}, by: 'not measured: there is no reading of used memory' });
  });
});
