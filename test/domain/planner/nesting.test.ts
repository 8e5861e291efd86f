/** Ollama as a service (P12): its models are counted once, as the service's, and end with it. */
import { describe, expect, it } from 'vitest';
import { CPU, EMBEDDER } from '../../../src/contracts/names.js';
import type { HostObservation, TenantObservation } from '../../../src/contracts/residency.js';
import { canFit } from '../../../src/domain/canFit.js';
import { noIntents } from '../../../src/domain/intents.js';
import { ollamaTrouble } from '../../../src/domain/ollamaTrouble.js';
import { viewHost } from '../../../src/domain/planner/hostView.js';
import { countedAs, heldOnMb, holdingInner } from '../../../src/domain/planner/nesting.js';
import { planPeaks, planResidency } from '../../../src/domain/planResidency.js';
import { resolveTarget } from '../../../src/domain/resolveTarget.js';
import {
  CARD_MB,
  clip,
  DESKTOP_MB,
  drivers,
  GPU,
  gpu,
  host,
  inWords,
  on,
  planOf,
  policy,
  refusalOf,
  target,
  tenant,
  VLM,
  VLM_MB,
  vlm,
} from './hosts.js';

const OLLAMA = 'service/ollama';
const SERVER_MB = 18_432;
/** What its server's own process takes. */
const REST_MB = 300;

const service = (name: string, change: Partial<TenantObservation> = {}): TenantObservation =>
  tenant(`service/${name}`, { kind: 'service', driver: 'native', ...change });
/** It holds what its models hold, and is charged what it may take. */
const ollama = (heldMb: number, change: Partial<TenantObservation> = {}): TenantObservation =>
  service('ollama', { ...on(heldMb), chargeMb: SERVER_MB, peakMb: SERVER_MB, priority: 10, ...change });
const comfyui = service('comfyui', { chargeMb: 20_480, peakMb: 20_480, priority: 100 });
const inside = (change: Partial<TenantObservation> = {}) => vlm({ inside: OLLAMA, ...change });
const loaded = (change: Partial<TenantObservation> = {}) => inside({ ...on(VLM_MB), ...change });

/** The card shows each process once. */
const card = (tenants: TenantObservation[], change: Partial<HostObservation> = {}): HostObservation => {
  const usedMb = DESKTOP_MB + heldOnMb(tenants, GPU);
  const observed = host(tenants, [gpu()], change);
  return { ...observed, devices: observed.devices.map((one) => (one.id === GPU ? { ...one, usedMb } : one)) };
};
const plan = (observed: HostObservation, wanted: ReturnType<typeof target>) =>
  planResidency(observed, wanted, policy({ reserveMb: 0 }));
const load = target({ [VLM]: { place: 'gpu' } }, { asked: VLM });
const start = target({ 'service/comfyui': { place: 'gpu' } }, { asked: 'service/comfyui' });

describe('what is inside a service', () => {
  const both = [ollama(REST_MB + VLM_MB), loaded()];

  it('is held once', () => {
    expect(both.map((one) => countedAs(one, both))).toEqual([null, OLLAMA]);
    expect(heldOnMb(both, GPU)).toBe(REST_MB + VLM_MB);
  });

  it('counts by itself while the service holds no GPU: it is stopped, or takes none by itself (`vram_mb: 0`)', () => {
    const stopped = [service('ollama'), loaded()];
    const without = [service('ollama', { state: 'resident', holdings: [{ device: CPU, mb: 0 }] }), loaded()];
    for (const tenants of [stopped, without]) {
      expect(countedAs(loaded(), tenants)).toBeNull();
      expect(heldOnMb(tenants, GPU)).toBe(VLM_MB);
    }
  });

  it('is held by the service also where its own processes do not show it', () => {
    const inner = [{ holdings: [{ device: GPU, mb: 4_000 }] }, { holdings: [{ device: 'GPU-2', mb: 5_000 }] }];
    expect(holdingInner([{ device: GPU, mb: 300 }], inner)).toEqual([
      { device: GPU, mb: 4_000 },
      { device: 'GPU-2', mb: 5_000 },
    ]);
    expect(holdingInner([{ device: GPU, mb: 9_500 }], inner)).toContainEqual({ device: GPU, mb: 9_500 });
    expect(holdingInner([{ device: CPU, mb: 0 }], inner)).toEqual([{ device: CPU, mb: 0 }]);
  });

  it('leaves strangers in the budget, and no room twice', () => {
    const observed = card(both);
    expect(viewHost(observed, policy()).gpus[0]).toMatchObject({ baseMb: DESKTOP_MB });
    const free = CARD_MB - DESKTOP_MB - SERVER_MB;
    expect(canFit(observed, free, policy({ reserveMb: 0 }))).toMatchObject({ fits: true, freeMb: { [GPU]: free } });
  });
});

describe('a plan for a host whose Ollama is a service', () => {
  it('loads a model into what the service is charged: nobody makes room, least of all the service', () => {
    const other = service('cosyvoice', { ...on(4_096), chargeMb: 4_096 });
    const observed = card([ollama(REST_MB), inside(), other]);
    const result = planOf(plan(observed, load));
    expect(inWords(result)).toEqual(['s1 load model/qwen3-vl:8b']);
    expect(result.steps[0]).toMatchObject({ needsMb: 0, why: expect.stringContaining(OLLAMA) });
    expect(planPeaks(observed, result)[0]?.peakMb).toBe(DESKTOP_MB + SERVER_MB + 4_096);
  });

  it('makes room for what goes beyond that, not at the cost of the service', () => {
    const sibling = tenant('model/other', { ...on(10_000), inside: OLLAMA, priority: 10, uses: 1 });
    const other = service('cosyvoice', { ...on(4_096), chargeMb: 4_096 });
    const result = planOf(plan(card([ollama(10_000), inside(), sibling, other]), load));
    expect(inWords(result)).toEqual(['s1 unload service/cosyvoice', 's2 load model/qwen3-vl:8b after s1']);
    // 10,000 + 10,752 − 18,432.
    expect(result.steps[1]).toMatchObject({ needsMb: 2_320 });
  });

  it('does not load into a service on a GPU that takes nothing new (law 1)', () => {
    const observed = card([ollama(REST_MB), inside()]);
    const devices = observed.devices.map((one) => (one.id === GPU ? { ...one, quarantine: 'memory is stuck' } : one));
    expect(refusalOf(plan({ ...observed, devices }, load))).toMatchObject({ code: 'device-quarantined' });
  });

  it('stops the service alone: its models end with it', () => {
    const observed = card([ollama(REST_MB + VLM_MB), loaded(), comfyui]);
    const result = planOf(plan(observed, start));
    expect(inWords(result)).toEqual(['s1 unload service/ollama', 's2 load service/comfyui after s1']);
    expect(result.steps[0]).toMatchObject({ freesMb: { [GPU]: REST_MB + VLM_MB } });
    const empty = target({ [VLM]: { place: 'absent' }, [OLLAMA]: { place: 'absent' } });
    expect(inWords(planOf(plan(observed, empty)))).toEqual(['s1 unload service/ollama']);
  });

  it('stops no more than needed: what is counted once is freed once (P5)', () => {
    const cosyvoice = service('cosyvoice', { ...on(4_096), chargeMb: 4_096, priority: 5 });
    const vidi = service('vidi', { chargeMb: 1_000, peakMb: 1_000, priority: 100 });
    const wanted = target({ 'service/vidi': { place: 'gpu' } });
    const observed = card([ollama(REST_MB + VLM_MB), loaded(), cosyvoice, vidi]);
    expect(inWords(planOf(plan(observed, wanted)))).toEqual(['s1 load service/vidi']);
  });

  it('spares the service while a model in it is in use, pinned or wished for', () => {
    const refused = (change: Partial<TenantObservation>) =>
      refusalOf(plan(card([ollama(VLM_MB), loaded(change), comfyui]), start)).message;
    expect(refused({ uses: 2 })).toContain('in use by 2 requests');
    expect(refused({ pinned: true })).toContain('pinned');
    const both = target({ [VLM]: { place: 'gpu' }, 'service/comfyui': { place: 'gpu' } });
    const observed = card([ollama(VLM_MB), loaded(), comfyui]);
    expect(refusalOf(plan(observed, both)).message).toContain('wanted there as well: service/ollama');
  });

  it('unloads a model alone while the service stays, and CLIP may have the room of the reading', () => {
    const observed = card([ollama(REST_MB + VLM_MB), loaded(), clip()]);
    const wishes = {
      [VLM]: { place: 'absent' as const },
      [EMBEDDER]: { place: 'gpu-if-room' as const, minFreeMb: 10_000, notBeside: [VLM] },
    };
    const result = planOf(plan(observed, target(wishes)));
    expect(inWords(result)).toEqual(['s1 unload model/qwen3-vl:8b', `s2 move ${EMBEDDER} to ${GPU} after s1`]);
    expect(result.steps[0]).toMatchObject({ freesMb: { [GPU]: VLM_MB } });
  });

  it('knows that a model has gone with its service: CLIP need not wait for another plan (M5)', () => {
    const observed = card([ollama(REST_MB + VLM_MB), loaded(), clip()]);
    const wishes = {
      [OLLAMA]: { place: 'absent' as const },
      [EMBEDDER]: { place: 'gpu-if-room' as const, minFreeMb: 20_000, notBeside: [VLM] },
    };
    expect(inWords(planOf(plan(observed, target(wishes))))).toEqual([
      's1 unload service/ollama',
      `s2 move ${EMBEDDER} to ${GPU} after s1`,
    ]);
  });

  it('lets what goes on with its load go on', () => {
    const observed = card([ollama(REST_MB + 5_000), loaded({ ...on(5_000), state: 'loading' })]);
    expect(inWords(planOf(plan(observed, load)))).toEqual(['s1 load model/qwen3-vl:8b']);
  });

  it('restores a model that is wanted, and leaves one that is there', () => {
    const back = target({ [VLM]: { place: 'gpu-if-room', minFreeMb: 0, notBeside: [] } });
    expect(inWords(planOf(plan(card([ollama(REST_MB), inside()]), back)))).toEqual(['s1 load model/qwen3-vl:8b']);
    expect(planOf(plan(card([ollama(VLM_MB), loaded()]), back)).steps).toEqual([]);
  });
});

describe('while that service is stopped', () => {
  const resting = drivers({ available: false, reason: 'its service ollama is stopped', resting: true });
  const observed = card([service('ollama', { chargeMb: SERVER_MB }), inside(), clip()], { drivers: resting });

  it('a load is refused, and says how the service is started', () => {
    expect(refusalOf(plan(observed, load))).toMatchObject({
      code: 'driver-unavailable',
      message: expect.stringContaining('its service ollama is stopped'),
      remedy: 'start what it runs in: `vramflow service start ollama`',
    });
  });

  it('nothing is wrong (M16): CLIP is where the mode wants it', () => {
    expect(ollamaTrouble(resting)).toBeNull();
    const away = drivers({ available: false, reason: 'nobody listens' });
    expect(ollamaTrouble(away)).toBe('nobody listens');
    const wishOf = (seen: HostObservation) =>
      resolveTarget({ kind: 'mode', mode: 'autopilot' }, noIntents(), policy(), seen).wishes[EMBEDDER];
    expect(wishOf(observed)).toMatchObject({ place: 'gpu-if-room' });
    expect(wishOf({ ...observed, drivers: away })).toEqual({ place: 'cpu' });
  });
});

describe('an empty phase (P3)', () => {
  it('stops the service whose server hangs: what is inside ends with it, whatever its driver says', () => {
    const hangs = drivers({ available: false, reason: 'no answer' });
    const observed = card([ollama(REST_MB), inside({ state: 'unknown' }), clip()], { drivers: hangs });
    const wanted = target({ [OLLAMA]: { place: 'absent' }, [VLM]: { place: 'absent' }, [EMBEDDER]: { place: 'cpu' } });
    expect(inWords(planOf(plan(observed, wanted)))).toEqual(['s1 unload service/ollama']);
    // What it left is proven by itself, once the service has ended.
    const left = card([service('ollama', { chargeMb: SERVER_MB }), inside({ ...on(9_000), state: 'unloading' })]);
    expect(inWords(planOf(plan(left, wanted)))).toEqual([`s1 unload ${VLM}`]);
    const modelOnly = target({ [VLM]: { place: 'absent' } });
    expect(refusalOf(plan(observed, modelOnly))).toMatchObject({ code: 'driver-unavailable' });
  });

  it('does not wait for an Ollama that is not there, unless it may hold something', () => {
    const wishesOf = (vlm: TenantObservation, seen: { unseen?: true } = { unseen: true }) => {
      const away = drivers({ available: false, reason: 'nobody listens', ...seen });
      const observed = card([vlm, clip()], { drivers: away });
      return resolveTarget({ kind: 'phase', phase: 'none' }, noIntents(), policy(), observed).wishes;
    };
    expect(wishesOf(tenant(VLM, { state: 'unknown' }))).toEqual({ [EMBEDDER]: { place: 'cpu' } });
    expect(wishesOf(tenant(VLM, { ...on(9_000), state: 'unknown' }))[VLM]).toEqual({ place: 'absent' });
    expect(wishesOf(tenant(VLM, { state: 'unknown' }), {})[VLM]).toEqual({ place: 'absent' });
  });
});

describe('several models inside', () => {
  const second = (change: Partial<TenantObservation> = {}) =>
    tenant('model/other', { chargeMb: 12_000, peakMb: 12_000, inside: OLLAMA, ...change });

  it('one that leaves makes room for another: nobody outside is stopped for what is counted twice', () => {
    const other = service('cosyvoice', { ...on(4_096), chargeMb: 4_096 });
    const observed = card([ollama(12_300), inside(), second(on(12_000)), other]);
    const swap = target({ [VLM]: { place: 'gpu' }, 'model/other': { place: 'absent' } });
    expect(inWords(planOf(plan(observed, swap)))).toEqual([
      's1 unload model/other',
      's2 load model/qwen3-vl:8b after s1',
    ]);
  });

  it('take what they need together, not each what is left for one', () => {
    const observed = card([ollama(REST_MB), inside(), second()]);
    const both = target({ [VLM]: { place: 'gpu' }, 'model/other': { place: 'gpu' } });
    const planned = planOf(plan(observed, both));
    const needed = planned.steps.map((step) => (step.kind === 'load' ? step.needsMb : 0));
    expect(needed.reduce((sum, mb) => sum + mb, 0)).toBe(VLM_MB + 12_000 - SERVER_MB);
  });

  it('one of lower priority makes room for another before anything outside does', () => {
    const other = service('cosyvoice', { ...on(4_096), chargeMb: 4_096 });
    const observed = card([ollama(12_300), inside(), second({ ...on(12_000), priority: 10 }), other]);
    expect(inWords(planOf(plan(observed, load)))).toEqual([
      's1 unload model/other',
      's2 load model/qwen3-vl:8b after s1',
    ]);
  });

  it('one makes room for another where nobody else could', () => {
    const observed = card([ollama(16_300), inside(), second({ ...on(16_000), chargeMb: 16_000 })]);
    expect(inWords(planOf(plan(observed, load)))).toEqual([
      's1 unload model/other',
      's2 load model/qwen3-vl:8b after s1',
    ]);
  });

  it('a refusal names the one inside that must stay, as one that is in use', () => {
    const busy = second({ ...on(16_000), chargeMb: 16_000, uses: 1 });
    expect(refusalOf(plan(card([ollama(16_300), inside(), busy]), load))).toMatchObject({
      code: 'in-use',
      message: expect.stringContaining('model/other holds 16,000 MB'),
    });
    const fixed = { ...busy, uses: 0, pinned: true };
    expect(refusalOf(plan(card([ollama(16_300), inside(), fixed]), load)).code).toBe('holder-outranks');
  });

  it('no more of them go than must', () => {
    const small = tenant('model/small', { ...on(5_000), chargeMb: 5_000, inside: OLLAMA, loadMs: 1_000 });
    const observed = card([ollama(17_300), inside(), second({ ...on(12_000), loadMs: 9_000 }), small]);
    // 17,000 + 10,752 − 18,432 = 9,320 beyond, 5,332 are free.
    expect(inWords(planOf(plan(observed, load)))[0]).toBe('s1 unload model/small');
    const large = {
      ...observed,
      tenants: observed.tenants.map((one) => (one.id === VLM ? inside({ chargeMb: 13_000 }) : one)),
    };
    expect(planOf(plan(large, load)).displaced).toEqual(['model/other']);
  });
});
