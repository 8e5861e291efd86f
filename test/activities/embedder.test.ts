import { describe, expect, it } from 'vitest';
import { createEmbedderActivities } from '../../src/activities/embedder.js';
import { createObserveActivities } from '../../src/activities/observe.js';
import { EmbedderError } from '../../src/adapters/clip/embedder.js';
import { FAILURE } from '../../src/contracts/failures.js';
import { CPU, EMBEDDER } from '../../src/contracts/names.js';
import { agentOnFakes, CARD, type Pieces } from '../agent/pieces.js';
import { call, failureOf, hasty, load, move, run } from './calls.js';

async function moving(change: Parameters<typeof agentOnFakes>[0] = {}) {
  const pieces = await agentOnFakes(change);
  await run(createObserveActivities(pieces.agent).observe, call(load()));
  return { ...pieces, ...createEmbedderActivities(pieces.agent) };
}

/** What it was when the last sample was taken. */
const devices = ({ launcher }: Pieces): string[] => [...launcher.live].map(({ device }) => device);

describe('a move of the embedder', () => {
  it('to the GPU and back is proven by valid embeddings, and by the memory (M8, law 2)', async () => {
    const one = await moving();
    const there = await run(one.moveEmbedder, call(move(CARD)));
    expect(there).toMatchObject({ acted: true, proof: { beforeMb: { [CARD]: 800 }, afterMb: { [CARD]: 1_300 } } });
    expect(one.agent.learned.get(EMBEDDER, null)).toMatchObject({ chargeMb: 500 });
    const back = await run(one.moveEmbedder, call(move(CPU), { round: 2 }));
    expect(back.proof).toMatchObject({
      afterMb: { [CARD]: 800 },
      by: 'embeddings are valid and agree with the old device; used memory dropped by 500 MB',
    });
    expect(devices(one)).toEqual(['cpu']);
    const changed = one.agent.journal.read({ types: ['device_changed'] });
    expect(changed.map(({ details }) => [details['from'], details['to']])).toEqual([
      [CPU, CARD],
      [CARD, CPU],
    ]);
  });

  it('to where it is starts nothing (law 4)', async () => {
    const one = await moving();
    await run(one.moveEmbedder, call(move(CARD)));
    expect(await run(one.moveEmbedder, call(move(CARD), { round: 2 }))).toMatchObject({ acted: false });
    expect(one.agent.journal.read({ types: ['device_changed'] })).toHaveLength(1);
  });

  it.each<[string, Error, string]>([
    ['no part', new EmbedderError('part-missing', 'm'), FAILURE.partMissing],
    ['no CUDA', new EmbedderError('no-cuda', 'm'), FAILURE.moveFailed],
    ['its own time', new EmbedderError('timeout', 'm'), FAILURE.moveTimeout],
    ['something else', new Error('m'), FAILURE.moveFailed],
  ])('fails by name: %s', async (_, error, type) => {
    const one = await moving();
    one.launcher.onStart = () => Promise.reject(error);
    expect(await failureOf(run(one.moveEmbedder, call(move(CARD))))).toMatchObject({ type });
    expect(one.agent.embedder.process()).toMatchObject({ device: 'cpu' });
    expect(one.agent.reclaims.has(EMBEDDER)).toBe(false);
  });

  it('fails when the embeddings differ, and stays on the old device', async () => {
    const one = await moving();
    one.launcher.vectorOf = (device) => (device === 'cuda' ? [0.8, 0.6] : [0.6, 0.8]);
    const failed = await failureOf(run(one.moveEmbedder, call(move(CARD))));
    expect(failed).toMatchObject({
      type: FAILURE.moveFailed,
      details: [{ remedy: expect.stringContaining('old device') }],
    });
    expect(devices(one)).toEqual(['cpu']);
  });

  it('is cancelled at its time', async () => {
    const one = await moving({ policy: hasty({ move: 0.05 }) });
    one.launcher.onStart = (_, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
    expect(await failureOf(run(one.moveEmbedder, call(move(CARD))))).toMatchObject({ type: FAILURE.moveTimeout });
  });

  it('does not begin when the room is gone', async () => {
    const one = await moving();
    one.card.strangers = [{ uuid: CARD, pid: 9, name: 'game', usedMb: 23_500 }];
    one.card.show();
    expect(await failureOf(run(one.moveEmbedder, call(move(CARD))))).toMatchObject({ type: FAILURE.premiseGone });
  });

  it('does not wait for the memory of one that had crashed (pain 3)', async () => {
    const one = await moving({ policy: hasty({ move: 1 }) });
    await run(one.moveEmbedder, call(move(CARD)));
    one.launcher.live.clear();
    one.card.show();
    const done = await run(one.moveEmbedder, call(move(CPU), { round: 2 }));
    expect(done).toMatchObject({ acted: true, proof: { by: expect.stringContaining('were not compared') } });
    expect(one.agent.observation().devices[0]?.quarantine).toBeNull();
  });

  it('off one that hangs keeps to its time, and says that nothing was compared (M8)', async () => {
    const one = await moving({ policy: hasty({ move: 1 }) });
    await run(one.moveEmbedder, call(move(CARD)));
    for (const process of one.launcher.live) one.launcher.deaf.add(process);
    const done = await run(one.moveEmbedder, call(move(CPU), { round: 2 }));
    expect(done.proof.by).toBe(
      'embeddings are valid; the old device did not answer, so they were not compared; used memory dropped by 500 MB',
    );
  });

  it('does not forget one that cannot be ended: its memory stays to be proven free (pain 8)', async () => {
    const one = await moving({ policy: hasty({ move: 0.2 }) });
    await run(one.moveEmbedder, call(move(CARD)));
    one.launcher.onEnd = () => Promise.reject(new EmbedderError('timeout', 'it was killed and is still there'));
    expect(await failureOf(run(one.moveEmbedder, call(move(CPU), { round: 2 })))).toMatchObject({
      type: FAILURE.moveTimeout,
    });
    // Callers are on the CPU; but what the old one holds is not free.
    expect(one.agent.embedder.process()).toMatchObject({ device: 'cpu' });
    const again = await failureOf(run(one.moveEmbedder, call(move(CPU), { round: 3 })));
    expect(again).toMatchObject({ type: FAILURE.notReclaimed });
    expect(one.agent.observation().devices[0]?.quarantine).toContain('embedder/clip');
    for (const process of one.launcher.live) if (process.device === 'cuda') one.launcher.live.delete(process);
    expect(await run(one.moveEmbedder, call(move(CPU), { round: 4 }))).toMatchObject({
      acted: true,
      proof: { by: expect.stringContaining('agree with the old device') },
    });
  });

  it('refuses another kind of step', async () => {
    const one = await moving();
    expect(await failureOf(run(one.moveEmbedder, call(load())))).toMatchObject({ type: FAILURE.moveFailed });
  });
});
