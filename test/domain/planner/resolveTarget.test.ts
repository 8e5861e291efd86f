import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EMBEDDER } from '../../../src/contracts/names.js';
import type { Intents, OperationGoal } from '../../../src/contracts/operation.js';
import type { TenantObservation } from '../../../src/contracts/residency.js';
import { planResidency } from '../../../src/domain/planResidency.js';
import { resolveTarget } from '../../../src/domain/resolveTarget.js';
import { caseArbitrary } from './arbitraryHosts.js';
import {
  CLIP_MB,
  CLIP_WISH,
  clip,
  drivers,
  gpu,
  host,
  intents,
  inWords,
  on,
  planOf,
  policy,
  tenant,
  VLM,
  VLM_MB,
  vlm,
} from './hosts.js';

const LLAVA = 'model/llava:7b';
const llava = (change: Partial<TenantObservation> = {}) => tenant(LLAVA, change);
const resolve = (goal: OperationGoal, wanted: Partial<Intents> = {}, tenants = [vlm(), clip()]) =>
  resolveTarget(goal, intents(wanted), policy(), host(tenants));
const load = (name: string, demand = false): OperationGoal => ({ kind: 'model', tenant: name, verb: 'load', demand });
const unload = (name: string): OperationGoal => ({ kind: 'model', tenant: name, verb: 'unload', demand: false });
const idle = (name: string): OperationGoal => ({ kind: 'idle-unload', tenant: name });
const reconcile: OperationGoal = { kind: 'reconcile', reason: 'VRAM changed' };
const ifItFits = { place: 'gpu-if-room', minFreeMb: 0, notBeside: [] };
const besideNoVlm = { place: 'gpu-if-room', minFreeMb: 0, notBeside: [VLM] };

describe('a mode', () => {
  test('wants what the configuration says, with the priority of a person', () => {
    expect(resolve({ kind: 'mode', mode: 'autopilot' })).toEqual({
      wishes: { [VLM]: { place: 'absent' }, [EMBEDDER]: CLIP_WISH },
      because: 'mode autopilot',
      priority: 100,
    });
  });

  test('ends a move by hand', () => {
    expect(resolve({ kind: 'mode', mode: 'autopilot' }, { embedderByHand: 'cpu' }).wishes[EMBEDDER]).toEqual(CLIP_WISH);
  });

  test('that does not exist wants nothing', () => {
    for (const mode of ['none', 'constructor', '__proto__']) expect(resolve({ kind: 'mode', mode }).wishes).toEqual({});
  });

  test('does not change the configuration', () => {
    const own = policy();
    const degraded = intents({ degradedReason: 'Ollama is away' });
    resolveTarget({ kind: 'mode', mode: 'autopilot' }, degraded, own, host([vlm(), clip()]));
    expect(own).toEqual(policy());
  });
});

describe('a load', () => {
  test('by a person has priority 100, on demand that of the model', () => {
    expect(resolve(load(LLAVA))).toMatchObject({ wishes: { [LLAVA]: { place: 'gpu' } }, priority: 100, asked: LLAVA });
    expect(resolve(load('model/tiny', true)).priority).toBe(10);
  });

  test('M7: of the VLM sends CLIP to the CPU, whoever put it on the GPU', () => {
    const tenants = [vlm(), clip(on(CLIP_MB))];
    for (const wanted of [{}, { mode: 'autopilot' }, { embedderByHand: 'cuda' as const }]) {
      const target = resolve(load(VLM, true), wanted, tenants);
      expect(inWords(planOf(planResidency(host(tenants), target, policy())))).toEqual([
        `s1 move ${EMBEDDER} to cpu`,
        `s2 load ${VLM} after s1`,
      ]);
    }
  });

  test('M9: of a VLM that is there already leaves CLIP where somebody put it beside it', () => {
    const tenants = [vlm(on(VLM_MB)), clip(on(CLIP_MB))];
    const target = resolve(load(VLM, true), { embedderByHand: 'cuda' }, tenants);
    expect(planOf(planResidency(host(tenants), target, policy())).steps).toEqual([]);
  });

  test('of another model keeps CLIP where it is while there is room', () => {
    expect(resolve(load(LLAVA)).wishes).toEqual({ [LLAVA]: { place: 'gpu' } });
    expect(resolve(load(LLAVA), { embedderByHand: 'cpu' }).wishes[EMBEDDER]).toEqual({ place: 'cpu' });
    expect(resolve(load(LLAVA), { embedderByHand: 'cuda' }).wishes[EMBEDDER]).toEqual(besideNoVlm);
  });
});

describe('the end of a model', () => {
  test('M12: an idle unload in autopilot lets CLIP come back to the GPU', () => {
    const tenants = [vlm(on(VLM_MB)), clip()];
    const target = resolve(idle(VLM), { mode: 'autopilot' }, tenants);
    expect(inWords(planOf(planResidency(host(tenants), target, policy())))).toEqual([
      `s1 unload ${VLM}`,
      `s2 move ${EMBEDDER} to GPU-4090 after s1`,
    ]);
  });

  test('brings back what it had displaced and is wanted still', () => {
    const displaced = [
      { tenant: LLAVA, by: VLM },
      { tenant: 'model/tiny', by: 'model/other' },
    ];
    const tenants = [vlm(on(VLM_MB)), llava(), tenant('model/tiny'), clip()];
    for (const goal of [idle(VLM), unload(VLM)]) {
      const { wishes } = resolve(goal, { displaced, wanted: [LLAVA, 'model/tiny'] }, tenants);
      expect(wishes).toEqual({ [LLAVA]: ifItFits, [VLM]: { place: 'absent' } });
      expect(resolve(goal, { displaced, wanted: [] }, tenants).wishes).toEqual({ [VLM]: { place: 'absent' } });
    }
  });

  test('is never refused because that does not fit any more', () => {
    const wanted = { displaced: [{ tenant: LLAVA, by: VLM }], wanted: [LLAVA] };
    const tenants = [vlm(on(5000)), llava({ chargeMb: 9000, peakMb: 9000 })];
    const observed = host(tenants, [gpu({ usedMb: 18_000, foreignMb: 18_000 })]);
    const target = resolveTarget(idle(VLM), intents(wanted), policy(), observed);
    const plan = planOf(planResidency(observed, target, policy()));
    expect(inWords(plan)).toEqual([`s1 unload ${VLM}`]);
    expect(plan.rejected[0]?.reason).toContain('not loaded. idle unload of qwen3-vl:8b: 6,564 MB are free');
  });
});

describe('reconciliation', () => {
  test('restores what died while it was wanted, and displaces nobody for it', () => {
    const target = resolve(reconcile, { mode: 'recording', wanted: [VLM, LLAVA] }, [vlm(), llava(on(4000)), clip()]);
    expect(target).toMatchObject({ wishes: { [VLM]: ifItFits, [EMBEDDER]: { place: 'cpu' } }, priority: 0 });
    expect(target.wishes[LLAVA]).toBeUndefined();
  });

  test('not what idle unload or a person took away, nor what failed for good, nor what nobody knows of', () => {
    expect(resolve(reconcile, { wanted: [] }).wishes).toEqual({});
    const unwell = llava({ ...on(4000), state: 'unhealthy' });
    expect(resolve(reconcile, { wanted: [LLAVA] }, [unwell]).wishes).toEqual({ [LLAVA]: ifItFits });
    for (const state of ['error', 'unknown', 'unloading'] as const) {
      expect(resolve(reconcile, { wanted: [VLM] }, [vlm({ state }), clip()]).wishes).toEqual({});
    }
  });

  test('P8: a service that failed, each time that its back-off has passed; not before, and not one that nobody wants', () => {
    const failed = (nextTryAt: string | null) =>
      llava({ kind: 'service', state: 'error', trouble: { reason: 'it ended', nextTryAt } });
    expect(resolve(reconcile, { wanted: [LLAVA] }, [failed(null)]).wishes).toEqual({ [LLAVA]: ifItFits });
    expect(resolve(reconcile, { wanted: [LLAVA] }, [failed('2026-01-01T00:00:01Z')]).wishes).toEqual({});
    expect(resolve(reconcile, { wanted: [] }, [failed(null)]).wishes).toEqual({});
    const unwell = { ...failed('2026-01-01T00:00:01Z'), ...on(4000), state: 'unhealthy' as const };
    expect(resolve(reconcile, { wanted: [LLAVA] }, [unwell]).wishes).toEqual({});
  });

  test('what a demand displaced stays away until that demand ends', () => {
    const wanted = { displaced: [{ tenant: LLAVA, by: VLM }], wanted: [LLAVA] };
    expect(resolve(reconcile, wanted, [vlm(on(VLM_MB)), llava()]).wishes).toEqual({});
    expect(resolve(reconcile, wanted, [vlm(), llava()]).wishes).toEqual({ [LLAVA]: ifItFits });
  });

  test('M7: a VLM that comes back sends CLIP to the CPU', () => {
    const tenants = [vlm(), clip(on(CLIP_MB))];
    const target = resolve(reconcile, { wanted: [VLM] }, tenants);
    expect(inWords(planOf(planResidency(host(tenants), target, policy())))).toEqual([
      `s1 move ${EMBEDDER} to cpu`,
      `s2 load ${VLM} after s1`,
    ]);
  });

  test('a mode is not enforced for ever: its CLIP on the GPU comes back only into room', () => {
    const own = policy({ modes: { both: { wishes: { [EMBEDDER]: { place: 'gpu' } } } } });
    const target = resolveTarget(reconcile, intents({ mode: 'both' }), own, host([vlm(), clip()]));
    expect(target.wishes).toEqual({ [EMBEDDER]: ifItFits });
  });
});

describe('a move of CLIP by hand', () => {
  test('is asked for, to one device', () => {
    expect(resolve({ kind: 'embedder', device: 'cuda' })).toMatchObject({
      wishes: { [EMBEDDER]: { place: 'gpu' } },
      asked: EMBEDDER,
      priority: 100,
    });
    expect(resolve({ kind: 'embedder', device: 'cpu' }).wishes).toEqual({ [EMBEDDER]: { place: 'cpu' } });
  });
});

describe('M16: while Ollama is away', () => {
  test('CLIP belongs on the CPU, by the observation, and by the host’s word where the observation is silent', () => {
    const away = host([vlm({ state: 'unknown' }), clip(on(CLIP_MB))], [gpu()], {
      drivers: drivers({ available: false }),
    });
    for (const mode of ['autopilot', 'idle']) {
      const observed = resolveTarget({ kind: 'mode', mode }, intents(), policy(), away);
      expect(observed.wishes[EMBEDDER]).toEqual({ place: 'cpu' });
      const silent = { ...away, drivers: away.drivers.filter(({ id }) => id !== 'ollama') };
      const told = resolveTarget({ kind: 'mode', mode }, intents({ degradedReason: 'timeout' }), policy(), silent);
      expect(told.wishes[EMBEDDER]).toEqual({ place: 'cpu' });
    }
    // The observation is fresher than what the host was told.
    const back = resolve({ kind: 'mode', mode: 'autopilot' }, { degradedReason: 'timeout' });
    expect(back.wishes[EMBEDDER]).not.toEqual({ place: 'cpu' });
  });
});

test('throws nothing, whatever the names, and what it wants can be planned or is refused', () => {
  const name = fc.constantFrom(VLM, LLAVA, 'model/m0', 'model/m1', 'model/none', EMBEDDER);
  const goal = fc.oneof<fc.Arbitrary<OperationGoal>[]>(
    fc.record({ kind: fc.constant('mode' as const), mode: fc.constantFrom('idle', 'recording', 'autopilot', 'none') }),
    fc.record({
      kind: fc.constant('model' as const),
      tenant: name,
      verb: fc.constantFrom('load' as const, 'unload' as const),
      demand: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('embedder' as const), device: fc.constantFrom('cpu' as const, 'cuda' as const) }),
    fc.record({ kind: fc.constant('idle-unload' as const), tenant: name }),
    fc.constant(reconcile),
  );
  const wanted = fc.record({
    mode: fc.constantFrom('idle', 'recording', 'autopilot', 'none'),
    phase: fc.constant(null),
    embedderByHand: fc.constantFrom(null, 'cpu' as const, 'cuda' as const),
    wanted: fc.uniqueArray(name),
    displaced: fc.array(fc.record({ tenant: name, by: name }), { maxLength: 3 }),
    degradedReason: fc.constantFrom(null, 'timeout'),
  });
  fc.assert(
    fc.property(goal, wanted, caseArbitrary(), (goal, wanted, { observed }) => {
      const target = resolveTarget(goal, wanted, policy(), observed);
      expect(['plan', 'refusal']).toContain(planResidency(observed, target, policy()).kind);
      if (goal.kind === 'reconcile' && target.wishes[EMBEDDER]?.place !== 'cpu') {
        expect(planResidency(observed, target, policy()).kind).toBe('plan');
      }
    }),
    { numRuns: 500 },
  );
});
