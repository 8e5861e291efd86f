import { describe, expect, test } from 'vitest';
import { CPU, EMBEDDER } from '../../../src/contracts/names.js';
import type { TenantObservation } from '../../../src/contracts/residency.js';
import { planResidency } from '../../../src/domain/planResidency.js';
import {
  CLIP_MB,
  clip,
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
  vlm,
} from './hosts.js';

const resident = (name: string, mb: number, change: Partial<TenantObservation> = {}): TenantObservation =>
  tenant(`model/${name}`, { ...on(mb), chargeMb: mb, ...change });
const loadVlm = target({ [VLM]: { place: 'gpu' } }, { asked: VLM });
const plan = (tenants: TenantObservation[], wanted = loadVlm) =>
  planResidency(host([vlm(), ...tenants]), wanted, policy());
const displaced = (tenants: TenantObservation[], wanted = loadVlm) => planOf(plan(tenants, wanted)).displaced;

// 24,564 − 512 reserve − 800 desktop = 23,252 MB for tenants; the VLM leaves 12,500 MB of that to others.
describe('who makes room', () => {
  test('nobody where there is room', () => {
    expect(displaced([resident('a', 6000), resident('b', 6500)])).toEqual([]);
  });

  test('the lower priority, though it is dearer to load again', () => {
    expect(
      displaced([resident('low', 8000, { priority: 10, loadMs: 90_000 }), resident('high', 8000, { loadMs: 1000 })]),
    ).toEqual(['model/low']);
  });

  test('among equals the one that is loaded again soonest', () => {
    expect(displaced([resident('slow', 8000, { loadMs: 9000 }), resident('quick', 8000, { loadMs: 3000 })])).toEqual([
      'model/quick',
    ]);
  });

  test('two small ones where one of them is not enough; nobody who is not needed', () => {
    const tenants = [
      resident('a', 4000),
      resident('b', 4000),
      resident('c', 9000, { priority: 80 }),
      resident('d', 1000),
    ];
    expect(displaced(tenants)).toEqual(['model/a', 'model/b']);
  });

  test('a lease only for something of higher priority (P7), not for a load of the same (pain 7)', () => {
    const held = tenant('reservation/held', { ...on(20_000), chargeMb: 20_000, kind: 'reservation', priority: 50 });
    const asked = tenant('reservation/asked', { chargeMb: 8_000, peakMb: 8_000, kind: 'reservation' });
    const lease = (priority: number) =>
      planResidency(
        host([held, asked]),
        target({ [asked.id]: { place: 'gpu' } }, { asked: asked.id, priority }),
        policy(),
      );
    expect(refusalOf(lease(50))).toMatchObject({
      code: 'holder-outranks',
      message: expect.stringContaining('it is a lease of the same priority, 50'),
    });
    expect(planOf(lease(51)).displaced).toEqual([held.id]);
    const load = (priority: number) =>
      planResidency(host([held, vlm()]), target({ [VLM]: { place: 'gpu' } }, { asked: VLM, priority }), policy());
    expect(refusalOf(load(50)).code).toBe('holder-outranks');
    expect(planOf(load(51)).displaced).toEqual([held.id]);
  });

  test('equal offers are decided by name', () => {
    expect(displaced([resident('b', 8000), resident('a', 8000)])).toEqual(['model/a']);
  });

  test('CLIP moves to the CPU, which is cheaper than to unload a model', () => {
    const result = planOf(plan([resident('a', 12_400), clip(on(CLIP_MB))]));
    expect(inWords(result)).toEqual([`s1 move ${EMBEDDER} to ${CPU}`, `s2 load ${VLM} after s1`]);
    expect(result.displaced).toEqual([EMBEDDER]);
    expect(result.rejected).toEqual([{ tenant: 'model/a', reason: 'not needed' }]);
  });

  test('each step says why, with figures', () => {
    const result = planOf(plan([resident('a', 8000), resident('b', 8000, { priority: 40 })]));
    expect(result.steps[0]?.why).toBe(
      'makes room for model/qwen3-vl:8b (10,752 MB): the cheapest that suffices, priority 40, idle for 60 s, ' +
        '8 s to load again; frees 8,000 MB on NVIDIA GeForce RTX 4090',
    );
  });
});

describe('who is spared, and why (P5)', () => {
  const spared = (change: Partial<TenantObservation>, priority = 100) =>
    refusalOf(plan([resident('big', 20_000, change)], { ...loadVlm, priority }));

  test('pinned', () => {
    expect(spared({ pinned: true })).toMatchObject({ code: 'holder-outranks', neededMb: 10_752 });
    expect(spared({ pinned: true }).message).toContain('model/big holds 20,000 MB');
    expect(spared({ pinned: true }).message).toContain('pinned');
  });

  test('of higher priority than the request; equals give way', () => {
    expect(spared({ priority: 60 }, 50).code).toBe('holder-outranks');
    expect(spared({ priority: 60 }, 50).message).toContain('its priority 60 is above 50');
    expect(spared({ priority: 60 }, 50).remedy).toContain('vramflow model unload big');
    expect(displaced([resident('big', 20_000, { priority: 50 })], { ...loadVlm, priority: 50 })).toEqual(['model/big']);
  });

  test('in use', () => {
    expect(spared({ uses: 2 })).toMatchObject({ code: 'in-use' });
    expect(spared({ uses: 2 }).message).toContain('in use by 2 requests');
  });

  test('what its driver does not answer for', () => {
    expect(spared({ state: 'unknown' }).code).toBe('driver-unavailable');
  });

  test('the spared are listed with their reasons beside the chosen', () => {
    const tenants = [resident('a', 5000, { uses: 1 }), resident('b', 5000, { pinned: true }), resident('c', 9000)];
    expect(planOf(plan(tenants))).toMatchObject({
      displaced: ['model/c'],
      rejected: [
        { tenant: 'model/a', reason: 'in use by 1 request' },
        { tenant: 'model/b', reason: 'pinned' },
      ],
    });
  });
});

describe('M18: refusals', () => {
  const need = (chargeMb: number, tenants: TenantObservation[] = [], device = gpu()) =>
    refusalOf(planResidency(host([vlm({ chargeMb, peakMb: chargeMb }), ...tenants], [device]), loadVlm, policy()));

  test('never fits: names the largest GPU and what helps; evicts nobody for nothing', () => {
    const refusal = need(24_100, [resident('a', 4000)]);
    expect(refusal).toMatchObject({ code: 'never-fits', neededMb: 24_100 });
    expect(refusal.message).toContain('24,564 MB');
    expect(refusal.message).toContain('24,052 MB after the reserve');
    expect(refusal.remedy).toContain('allow_cpu');
  });

  test('strangers hold too much', () => {
    const refusal = need(10_752, [resident('a', 4000)], gpu({ usedMb: 18_000, foreignMb: 18_000 }));
    expect(refusal.code).toBe('not-enough-vram');
    expect(refusal.message).toContain('18,000 MB foreign');
    expect(refusal.remedy).toContain('`vramflow model unload a` (4,000 MB), which alone is not enough');
    expect(refusal.figures).toEqual({ [GPU]: { totalMb: 24_564, usedMb: 22_000, freeMb: 2564, foreignMb: 18_000 } });
  });

  test('memory that nobody explains, or that is not proven free, is not free', () => {
    expect(need(10_752, [], gpu({ usedMb: 18_000, foreignMb: 800 })).message).toContain('17,200 MB unexplained');
    expect(need(10_752, [], gpu({ usedMb: 18_000, reclaimingMb: 17_200 })).message).toContain('not proven free yet');
  });

  test('no reading, or a quarantine', () => {
    expect(need(10_752, [], gpu({ usedMb: null, foreignMb: null, problem: '[N/A]' }))).toMatchObject({
      code: 'device-unknown',
      figures: { [GPU]: { usedMb: null, freeMb: null } },
    });
    expect(need(10_752, [], gpu({ sampleAgeMs: 5001 })).message).toContain('sample is 5 s old');
    expect(need(10_752, [], gpu({ quarantine: 'keeps 3000 MB' }))).toMatchObject({ code: 'device-quarantined' });
  });

  test('a wish for what is not on this host', () => {
    const wanted = target({ 'model/none': { place: 'gpu' } }, { asked: 'model/none' });
    expect(refusalOf(plan([], wanted)).code).toBe('unknown-tenant');
  });
});

describe('allow_cpu', () => {
  const big = vlm({ chargeMb: 30_000, peakMb: 30_000, allowCpu: true });

  test('a model that does not fit uses what is free, and pushes out nobody for that', () => {
    const result = planOf(planResidency(host([big, resident('a', 4000)]), loadVlm, policy()));
    expect(inWords(result)).toEqual([`s1 load ${VLM}`]);
    expect(result.steps[0]).toMatchObject({
      needsMb: 0,
      allowCpu: true,
      devices: [GPU, CPU],
      peakMb: { [GPU]: 24_052 },
    });
    expect(result.steps[0]?.why).toContain('the rest is in system memory');
  });

  test('one that is in system memory because it does not fit stays there', () => {
    const there = { ...big, state: 'resident' as const, holdings: [{ device: CPU, mb: 30_000 }] };
    const result = planOf(planResidency(host([there]), loadVlm, policy()));
    expect(result.steps).toEqual([]);
    expect(result.rejected).toEqual([{ tenant: VLM, reason: 'stays in system memory: no room for it whole' }]);
  });
});
