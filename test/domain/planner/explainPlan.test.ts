import { describe, expect, test } from 'vitest';
import { explainPlan, simulatedMark } from '../../../src/domain/explainPlan.js';
import { planResidency } from '../../../src/domain/planResidency.js';
import { CLIP_MB, clip, gpu, host, on, policy, target, tenant, VLM, vlm } from './hosts.js';

const wanted = target({ [VLM]: { place: 'gpu' } }, { because: 'mode recording', asked: VLM });
const explained = (observed: ReturnType<typeof host>) =>
  explainPlan(planResidency(observed, wanted, policy()), observed);

describe('explainPlan (law 11)', () => {
  test('a plan: steps with seconds, peaks and reasons; whom it displaces; who was spared', () => {
    const used = tenant('model/used', { ...on(4000), uses: 1 });
    const idle = tenant('model/idle', { ...on(9000), chargeMb: 9000, loadMs: 5000 });
    expect(explained(host([vlm(), used, idle, clip(on(CLIP_MB))]))).toEqual([
      'mode recording: 2 steps, about 13.5 s',
      's1: unload model/idle (~1.5 s, at most 14,300 MB of 24,564 MB on NVIDIA GeForce RTX 4090): makes room for ' +
        'model/qwen3-vl:8b (10,752 MB): the cheapest that suffices, priority 50, idle for 60 s, 5 s to load again; ' +
        'frees 9,000 MB on NVIDIA GeForce RTX 4090',
      's2 after s1: load model/qwen3-vl:8b (~12 s, at most 16,052 MB of 24,564 MB on NVIDIA GeForce RTX 4090): ' +
        'mode recording; needs 10,752 MB on NVIDIA GeForce RTX 4090',
      'displaces model/idle',
      'left as it is: embedder/clip: not needed',
      'left as it is: model/used: in use by 1 request',
    ]);
  });

  test('a refusal: the figures, what to do, and who holds what', () => {
    const holder = tenant('model/big', { ...on(20_000), chargeMb: 20_000, pinned: true });
    expect(explained(host([vlm(), holder]))).toEqual([
      'mode recording: refused (holder-outranks): model/qwen3-vl:8b needs 10,752 MB, and NVIDIA GeForce RTX 4090 has ' +
        '3,252 MB left of 24,564 MB after the reserve of 512 MB; model/big holds 20,000 MB on NVIDIA GeForce RTX 4090 ' +
        'and is not pushed out: pinned',
      'what to do: take away by hand what may go: `vramflow model unload big` (20,000 MB)',
      'NVIDIA GeForce RTX 4090: total 24,564 MB, used 20,800 MB, free 3,764 MB, foreign 800 MB',
      'left as it is: model/big: pinned',
    ]);
  });

  test('nothing to do', () => {
    expect(explained(host([vlm(on(10_752))]))).toEqual(['mode recording: nothing to do, it is so already']);
  });

  test('a simulated host says so, once', () => {
    const observed = host([vlm()], [gpu()], { simulated: true });
    expect(simulatedMark(observed)).toEqual(['SIMULATED: the figures come from the simulator']);
    expect(simulatedMark(host([vlm()]))).toEqual([]);
    expect(explained(observed).join('\n')).not.toMatch(/SIMULATED/);
  });

  test('two GPUs of one make are told apart; the one that stays as it is says nothing', () => {
    const lines = explained(host([vlm()], [gpu({ id: 'GPU-a' }), gpu({ id: 'GPU-b', usedMb: 9000, foreignMb: 9000 })]));
    expect(lines[1]).toContain('on NVIDIA GeForce RTX 4090 GPU-a');
  });
});
