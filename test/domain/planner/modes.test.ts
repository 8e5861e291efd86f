/** Set-up M on its own figures: a 24,564 MB card, 800 MB of desktop, a VLM of 10,752 MB, CLIP of 500 MB. */
import { describe, expect, test } from 'vitest';
import { CPU, EMBEDDER } from '../../../src/contracts/names.js';
import type { HostObservation } from '../../../src/contracts/residency.js';
import { planPeaks, planResidency, reachedTarget } from '../../../src/domain/planResidency.js';
import { resolveTarget } from '../../../src/domain/resolveTarget.js';
import {
  CARD_MB,
  CLIP_MB,
  clip,
  DESKTOP_MB,
  drivers,
  GPU,
  gpu,
  host,
  intents,
  inWords,
  on,
  planOf,
  policy,
  refusalOf,
  VLM,
  VLM_MB,
  vlm,
} from './hosts.js';

const modeTarget = (mode: string, observed: HostObservation) =>
  resolveTarget({ kind: 'mode', mode }, intents(), policy(), observed);
const planMode = (mode: string, observed: HostObservation) =>
  planResidency(observed, modeTarget(mode, observed), policy());

describe('M1: modes', () => {
  test('idle forces nothing', () => {
    expect(planOf(planMode('idle', host([vlm(on(VLM_MB)), clip()]))).steps).toEqual([]);
  });

  test('recording loads the VLM; CLIP is on the CPU already', () => {
    const plan = planOf(planMode('recording', host([vlm(), clip()])));
    expect(inWords(plan)).toEqual([`s1 load ${VLM}`]);
    expect(plan.steps[0]).toMatchObject({
      needsMb: VLM_MB,
      allowCpu: false,
      expectedMs: 12000,
      devices: [GPU],
      peakMb: { [GPU]: DESKTOP_MB + VLM_MB },
    });
    expect(plan).toMatchObject({ because: 'mode recording', displaced: [], rejected: [], expectedMs: 12000 });
  });

  test('M4: autopilot unloads the VLM, even in use, and then moves CLIP to the GPU with the room that will be there', () => {
    const plan = planOf(planMode('autopilot', host([vlm({ ...on(VLM_MB), uses: 2 }), clip()])));
    expect(inWords(plan)).toEqual([`s1 unload ${VLM}`, `s2 move ${EMBEDDER} to ${GPU} after s1`]);
    expect(plan.steps[0]).toMatchObject({ freesMb: { [GPU]: VLM_MB } });
    expect(plan.displaced).toEqual([]);
  });

  test('M7: CLIP leaves the GPU before the VLM comes', () => {
    const plan = planOf(planMode('recording', host([vlm(), clip(on(CLIP_MB))])));
    expect(inWords(plan)).toEqual([`s1 move ${EMBEDDER} to ${CPU}`, `s2 load ${VLM} after s1`]);
    expect(plan.steps[0]).toMatchObject({ freesMb: { [GPU]: CLIP_MB }, devices: [GPU, CPU] });
  });

  test('M7: also where CLIP is on another GPU than the one with room for the VLM', () => {
    const two = [gpu({ id: 'A', totalMb: 6144, name: 'small' }), gpu({ id: 'B' })];
    const plan = planOf(planMode('recording', host([vlm(), clip(on(CLIP_MB, 'A'))], two)));
    expect(inWords(plan)).toEqual([`s1 move ${EMBEDDER} to ${CPU}`, `s2 load ${VLM} after s1`]);
  });

  test('M9: a mode that is true already needs no step', () => {
    const observed = host([vlm(on(VLM_MB)), clip()]);
    expect(planOf(planMode('recording', observed)).steps).toEqual([]);
    expect(reachedTarget(observed, modeTarget('recording', observed), policy())).toBe(true);
    expect(reachedTarget(host([vlm(), clip()]), modeTarget('recording', observed), policy())).toBe(false);
  });

  test('M9: a model that is listed but has not answered proves itself: a direct load may be under way', () => {
    for (const change of [{}, { allowCpu: true }]) {
      const listed = host([vlm({ ...on(VLM_MB), proven: false, ...change }), clip(on(CLIP_MB))]);
      const plan = planOf(planMode('recording', listed));
      expect(inWords(plan)).toEqual([`s1 move ${EMBEDDER} to ${CPU}`, `s2 load ${VLM} after s1`]);
      expect(plan.steps[1]).toMatchObject({ confirms: true, needsMb: 0, devices: [GPU], expectedMs: 200 });
    }
    // Where it is not wanted, nobody asks.
    const unwanted = host([vlm({ ...on(VLM_MB), proven: false }), clip()]);
    expect(planOf(planMode('idle', unwanted)).steps).toEqual([]);
  });
});

describe('M5: CLIP in autopilot', () => {
  /** So much would be free with CLIP on the CPU. */
  const free = (mb: number, clipThere = clip()) =>
    host([vlm(), clipThere], [gpu({ usedMb: CARD_MB - mb, foreignMb: CARD_MB - mb })]);
  const onGpu = clip(on(CLIP_MB));
  const noReserve = policy({ reserveMb: 0 });
  const plan = (observed: HostObservation) =>
    inWords(planOf(planResidency(observed, modeTarget('autopilot', observed), noReserve)));

  test('goes to the GPU with more than 1024 MB free, and not with 1024', () => {
    expect(plan(free(1025))).toEqual([`s1 move ${EMBEDDER} to ${GPU}`]);
    expect(plan(free(1024))).toEqual([]);
  });

  test('on the GPU, its own memory counts as free', () => {
    expect(plan(free(1025, onGpu))).toEqual([]);
    expect(plan(free(1024, onGpu))).toEqual([`s1 move ${EMBEDDER} to ${CPU}`]);
  });

  test('stays off while the VLM loads, and while nobody knows where the VLM is', () => {
    expect(plan(host([vlm({ state: 'loading' }), clip()])).filter((step) => step.includes('move'))).toEqual([
      `s2 move ${EMBEDDER} to ${GPU} after s1`,
    ]);
    const wish = modeTarget('autopilot', free(20_000)).wishes[EMBEDDER] ?? { place: 'cpu' };
    const alone = { wishes: { [EMBEDDER]: wish }, because: 'VRAM changed', priority: 0 };
    for (const state of ['loading', 'unknown', 'unloading'] as const) {
      expect(inWords(planOf(planResidency(host([vlm({ state }), clip()]), alone, policy())))).toEqual([]);
    }
  });

  test('law 1: a reading that is missing, old or from a quarantined GPU is not free', () => {
    const troubles = [
      { usedMb: null, foreignMb: null },
      { sampleAgeMs: 5001 },
      { health: 'unknown' as const },
      { quarantine: 'kept 3000 MB' },
    ];
    for (const trouble of troubles) expect(plan(host([vlm(), clip()], [gpu(trouble)]))).toEqual([]);
    expect(plan(host([vlm(), onGpu], [gpu({ sampleAgeMs: 5001 })]))).toEqual([`s1 move ${EMBEDDER} to ${CPU}`]);
  });

  test('memory that no sample has proven free is not free', () => {
    expect(plan(host([vlm(), clip()], [gpu({ usedMb: 24_000, reclaimingMb: 23_200 })]))).toEqual([]);
  });
});

test('M5: CLIP comes once the VLM has left, also on another GPU', () => {
  const two = [gpu({ id: 'A' }), gpu({ id: 'B' })];
  expect(inWords(planOf(planMode('autopilot', host([vlm(on(VLM_MB, 'B')), clip()], two))))).toEqual([
    `s1 unload ${VLM}`,
    `s2 move ${EMBEDDER} to A after s1`,
  ]);
});

describe('M16: Ollama is away', () => {
  const away = { drivers: drivers({ available: false, reason: 'connect ECONNREFUSED' }) };
  const observed = host([vlm({ state: 'unknown' }), clip(on(CLIP_MB))], [gpu()], away);

  test('a mode that needs the VLM changed is refused, whole', () => {
    for (const mode of ['recording', 'autopilot']) {
      const refusal = refusalOf(planMode(mode, observed));
      expect(refusal).toMatchObject({ code: 'driver-unavailable' });
      expect(refusal.message).toContain('connect ECONNREFUSED');
      expect(refusal.remedy).toContain('start Ollama');
    }
  });

  test('reconciliation moves CLIP to the CPU, without a refusal', () => {
    const degraded = intents({ mode: 'autopilot', wanted: [VLM], degradedReason: 'Ollama is away' });
    const target = resolveTarget({ kind: 'reconcile', reason: 'driver away' }, degraded, policy(), observed);
    expect(inWords(planOf(planResidency(observed, target, policy())))).toEqual([`s1 move ${EMBEDDER} to ${CPU}`]);
  });
});

describe('M17: no GPU', () => {
  const observed = host([vlm(), clip()], []);

  test('the VLM loads on the CPU, visibly', () => {
    const plan = planOf(planMode('recording', observed));
    expect(inWords(plan)).toEqual([`s1 load ${VLM} to ${CPU}`]);
    expect(plan.steps[0]).toMatchObject({ allowCpu: true, needsMb: 0, devices: [CPU], peakMb: {} });
    expect(plan.steps[0]?.why).toContain('this host has no GPU');
    const there = host([vlm({ state: 'resident', holdings: [{ device: CPU, mb: VLM_MB }] }), clip()], []);
    expect(planOf(planMode('recording', there)).steps).toEqual([]);
  });

  test('autopilot keeps CLIP on the CPU', () => {
    expect(planOf(planMode('autopilot', observed)).steps).toEqual([]);
  });

  test('a move of CLIP to the GPU by hand is refused politely', () => {
    const target = resolveTarget({ kind: 'embedder', device: 'cuda' }, intents(), policy(), observed);
    const refusal = refusalOf(planResidency(observed, target, policy()));
    expect(refusal).toMatchObject({ code: 'no-gpu', figures: {} });
    expect(refusal.message).toContain('no GPU');
  });
});

describe('the optional CLIP part is missing', () => {
  const observed = host([vlm(), clip({ state: 'absent', holdings: [] })]);

  test('a mode goes on without it, and says so', () => {
    const plan = planOf(planMode('recording', observed));
    expect(inWords(plan)).toEqual([`s1 load ${VLM}`]);
    expect(plan.rejected).toEqual([{ tenant: EMBEDDER, reason: 'its optional part is not installed' }]);
    const [ollama, part] = drivers();
    if (ollama === undefined || part === undefined) throw new Error('two drivers');
    const reason = 'run `npm run setup` to install it';
    const known = { ...observed, drivers: [ollama, { ...part, available: false, reason }] };
    expect(planOf(planMode('recording', known)).rejected).toEqual([{ tenant: EMBEDDER, reason }]);
  });

  test('a move by hand is refused', () => {
    for (const device of ['cuda', 'cpu'] as const) {
      const target = resolveTarget({ kind: 'embedder', device }, intents(), policy(), observed);
      expect(refusalOf(planResidency(observed, target, policy())).code).toBe('part-missing');
    }
  });
});

describe('a tenant that is not as it should be', () => {
  const recording = (change: Parameters<typeof vlm>[0]) =>
    inWords(planOf(planMode('recording', host([vlm(change), clip()]))));

  test('partly in system memory: unloaded and loaded again, whole', () => {
    const partly = [
      { device: GPU, mb: 8000 },
      { device: CPU, mb: 2752 },
    ];
    const again = [`s1 unload ${VLM}`, `s2 load ${VLM} after s1`];
    expect(recording({ state: 'resident', holdings: partly })).toEqual(again);
    expect(recording({ state: 'resident', holdings: partly, allowCpu: true })).toEqual([]);
  });

  test('a load that died goes on where it is', () => {
    for (const state of ['loading', 'error'] as const) {
      expect(recording({ state, holdings: [{ device: GPU, mb: 5000 }] })).toEqual([`s1 load ${VLM}`]);
    }
    for (const state of ['loading', 'unloading', 'error'] as const) {
      expect(recording({ state, holdings: [] })).toEqual([`s1 load ${VLM}`]);
    }
  });

  test('memory of an unload that is not proven free is proven first', () => {
    expect(recording({ state: 'unloading', holdings: [{ device: GPU, mb: 5000 }] })).toEqual([
      `s1 unload ${VLM}`,
      `s2 load ${VLM} after s1`,
    ]);
  });

  test('an unload that died is carried on', () => {
    const autopilot = (change: Parameters<typeof vlm>[0]) =>
      inWords(planOf(planMode('autopilot', host([vlm(change), clip(on(CLIP_MB))]))));
    expect(autopilot({ state: 'unloading', holdings: [{ device: GPU, mb: 5000 }] })).toContain(`s1 unload ${VLM}`);
    expect(autopilot({ state: 'error', holdings: [] })).toEqual([]);
  });

  test('CLIP in state error is started again where it belongs', () => {
    const observed = host([vlm(on(VLM_MB)), clip({ state: 'error', holdings: [] })]);
    expect(inWords(planOf(planMode('recording', observed)))).toEqual([`s1 move ${EMBEDDER} to ${CPU}`]);
  });
});

test('planPeaks gives the peaks by step and GPU', () => {
  const observed = host([vlm(), clip(on(CLIP_MB))]);
  const plan = planMode('recording', observed);
  expect(planPeaks(observed, plan)).toEqual([
    { step: 's1', device: GPU, label: gpu().name, peakMb: DESKTOP_MB + CLIP_MB, totalMb: CARD_MB },
    { step: 's2', device: GPU, label: gpu().name, peakMb: DESKTOP_MB + VLM_MB, totalMb: CARD_MB },
  ]);
});
