import { describe, expect, test } from 'vitest';
import { CPU, EMBEDDER } from '../../../src/contracts/names.js';
import type { DeviceObservation, TenantObservation } from '../../../src/contracts/residency.js';
import { planResidency } from '../../../src/domain/planResidency.js';
import {
  CLIP_MB,
  clip,
  drivers,
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

const two = (a: Partial<DeviceObservation> = {}, b: Partial<DeviceObservation> = {}): DeviceObservation[] => [
  gpu({ id: 'A', totalMb: 12_288, ...a }),
  gpu({ id: 'B', totalMb: 12_288, ...b }),
];
const wanted = target({ [VLM]: { place: 'gpu' } }, { asked: VLM });
const plan = (tenants: TenantObservation[], devices = two(), change = {}) =>
  planResidency(host(tenants, devices, change), wanted, policy());
const resident = (name: string, mb: number, device: string, change: Partial<TenantObservation> = {}) =>
  tenant(`model/${name}`, { ...on(mb, device), chargeMb: mb, ...change });

describe('Ollama places by itself', () => {
  test('whole on the GPU with the most room; the turn covers all that its server sees', () => {
    const [step] = planOf(plan([vlm()], two({ usedMb: 900, foreignMb: 900 }))).steps;
    expect(step).toMatchObject({ devices: ['A', 'B'], peakMb: { A: 900, B: 11_552 } });
  });

  test('a load takes as long as it was measured to take there, an unload as it was measured at all', () => {
    const full = { usedMb: 9_000, foreignMb: 9_000 };
    const known = vlm({ loadMs: 9_000, loadMsOn: { A: 4_000, 'A+B': 6_000 }, stopMs: 700 });
    const ms = (devices: DeviceObservation[]) => planOf(plan([known], devices)).steps[0]?.expectedMs;
    expect(ms(two({}, full))).toBe(4_000);
    expect(ms(two(full, {}))).toBe(9_000);
    const gone = planResidency(
      host([{ ...known, ...on(8_000, 'A') }], two()),
      target({ [VLM]: { place: 'absent' } }),
      policy(),
    );
    expect(planOf(gone).steps[0]).toMatchObject({ kind: 'unload', expectedMs: 700 });
  });

  test('over several GPUs where it fits on none', () => {
    const [step] = planOf(plan([vlm({ chargeMb: 20_000, peakMb: 20_000 })])).steps;
    expect(step).toMatchObject({ devices: ['A', 'B'], needsMb: 20_000, peakMb: { A: 10_800, B: 10_800 } });
  });

  test('larger than all together never fits', () => {
    const refusal = refusalOf(plan([vlm({ chargeMb: 30_000, peakMb: 30_000 })]));
    expect(refusal.code).toBe('never-fits');
    expect(refusal.message).toContain('all 2 together 23,552 MB');
  });

  test('nobody is pushed out while it fits over several; else the one that suffices', () => {
    const small = [resident('a', 4000, 'A'), resident('b', 5000, 'B')];
    expect(inWords(planOf(plan([vlm(), ...small])))).toEqual([`s1 load ${VLM}`]);
    const large = [resident('a', 8000, 'A', { loadMs: 9000 }), resident('b', 9000, 'B', { loadMs: 3000 })];
    expect(inWords(planOf(plan([vlm(), ...large])))).toEqual(['s1 unload model/b', `s2 load ${VLM} after s1`]);
  });

  test('a quarantined GPU takes nothing, the other does', () => {
    const [step] = planOf(plan([vlm()], two({ quarantine: 'keeps 3000 MB' }))).steps;
    expect(step).toMatchObject({ peakMb: { A: 800, B: 11_552 } });
    const full = two({ quarantine: 'keeps 3000 MB' }, { usedMb: 11_000, foreignMb: 11_000 });
    expect(refusalOf(plan([vlm()], full)).code).toBe('device-quarantined');
  });

  test('steps on other GPUs do not wait for each other', () => {
    const both = target({ 'model/a': { place: 'absent' }, [EMBEDDER]: { place: 'gpu' } });
    const observed = host([resident('a', 9000, 'A'), clip()], two({}, { usedMb: 5000, foreignMb: 5000 }));
    expect(inWords(planOf(planResidency(observed, both, policy())))).toEqual([
      's1 unload model/a',
      `s2 move ${EMBEDDER} to B`,
    ]);
  });
});

describe('a service beside a model that Ollama may split: no more go than the better order of the two loads needs', () => {
  // Counterexamples that the property "pushes out nobody whom it could spare" found. The service needs one GPU whole;
  // loaded first it leaves the model enough over several; loaded after the model it finds none, unless more go.
  const wanted = target({ 'service/new': { place: 'gpu' }, 'model/new': { place: 'gpu' } });
  const service = tenant('service/new', { kind: 'service', driver: 'native' });
  const empty = (id: string, totalMb: number) => gpu({ id, totalMb, usedMb: 0, foreignMb: 0 });
  const planBoth = (peakMb: number, tenants: TenantObservation[], devices: DeviceObservation[]) =>
    planResidency(
      host([service, tenant('model/new', { peakMb }), ...tenants], devices),
      wanted,
      policy({ reserveMb: 0 }),
    );
  const serviceFirst = ['s1 unload model/a', 's2 load service/new after s1', 's3 load model/new after s1 s2'];
  const onTwo = [empty('A', 12_000), empty('B', 3000)];
  const residents = (change: Partial<TenantObservation> = {}) => [
    resident('a', 6000, 'A', { loadMs: 1000, ...change }),
    resident('b', 6000, 'A', { loadMs: 2000, ...change }),
  ];

  test('where the model takes more while it loads than afterwards', () => {
    const both = planOf(planBoth(4200, residents(), onTwo));
    expect(both.displaced).toEqual(['model/a']);
    expect(inWords(both)).toEqual(serviceFirst);
  });

  test('where both take the same', () => {
    const both = planOf(planBoth(4000, residents(), onTwo));
    expect(both.displaced).toEqual(['model/a']);
    expect(inWords(both)).toEqual(serviceFirst);
  });

  test('where the model needs the rest of that GPU and another one, and a third is full', () => {
    const held = [
      resident('full', 4600, 'A', { uses: 2 }),
      resident('a', 4000, 'B', { loadMs: 1000 }),
      resident('b', 4000, 'B', { loadMs: 2000 }),
    ];
    const both = planOf(planBoth(4000, held, [empty('A', 4600), empty('B', 10_788), empty('C', 3844)]));
    expect(both.displaced).toEqual(['model/a']);
    expect(inWords(both)).toEqual(serviceFirst);
  });

  test('a refusal names no more of those that stay than stand in the way', () => {
    const { code, message } = refusalOf(planBoth(4200, residents({ pinned: true }), onTwo));
    expect(code).toBe('holder-outranks');
    expect(message).toContain('model/a holds 6,000 MB');
    expect(message).not.toContain('model/b');
  });
});

describe('a driver that puts tenants where it is told', () => {
  const chosen = { drivers: drivers({ placement: 'chosen' }) };

  test('the fullest GPU with room, so that the larger room is kept', () => {
    const [step] = planOf(
      plan([vlm({ chargeMb: 4000, peakMb: 4000 })], two({}, { usedMb: 5000, foreignMb: 5000 }), chosen),
    ).steps;
    expect(step).toMatchObject({ devices: ['B'], peakMb: { B: 9000 } });
  });

  test('never over several GPUs', () => {
    expect(refusalOf(plan([vlm({ chargeMb: 20_000, peakMb: 20_000 })], two(), chosen)).code).toBe('never-fits');
  });
});

describe('a service in a container that others gave its GPUs', () => {
  const wanted = target({ 'service/tts': { place: 'gpu' } }, { asked: 'service/tts' });
  const docker = { id: 'docker', available: true, reason: null, placement: 'chosen', version: null } as const;
  const planOn = (givenGpus: string[], devices = two(), others: TenantObservation[] = []) => {
    const tts = tenant('service/tts', { kind: 'service', driver: 'docker', chargeMb: 4_000, givenGpus });
    const drives = { drivers: [...drivers(), docker] };
    return planResidency(host([tts, ...others], devices, drives), wanted, policy());
  };

  test('comes to that one, also where another is the better fit', () => {
    const fuller = two({}, { usedMb: 5_000, foreignMb: 5_000 });
    expect(planOf(planOn(['A'], fuller)).steps).toMatchObject([{ devices: ['A'], needsMb: 4_000 }]);
    expect(planOf(planOn(['B'], fuller)).steps).toMatchObject([{ devices: ['B'] }]);
  });

  test('takes one from those in the way there, not elsewhere', () => {
    const full = [resident('a', 11_000, 'A'), resident('b', 11_000, 'B')];
    expect(inWords(planOf(planOn(['A'], two(), full)))).toEqual(['s1 unload model/a', 's2 load service/tts after s1']);
  });

  test('may use any of several: there is room for the whole on each, and the turn covers all of them', () => {
    const [step] = planOf(planOn(['A', 'B'])).steps;
    expect(step).toMatchObject({ devices: ['A', 'B'], needsMb: 4_000, peakMb: { A: 4_800, B: 4_800 } });
    expect(step?.why).toContain('each of NVIDIA GeForce RTX 4090 A and NVIDIA GeForce RTX 4090 B, which it was given');
  });

  test('is refused in words that name what it was given', () => {
    const full = two({}, { usedMb: 9_000, foreignMb: 9_000 });
    const onOne = refusalOf(planOn(['B'], full));
    expect(onOne.code).toBe('not-enough-vram');
    expect(onOne.message).toContain('service/tts needs 4,000 MB on the GPU that it was given, and');
    expect(onOne.message).not.toContain('RTX 4090 A has');
    expect(refusalOf(planOn(['A', 'B'], full)).message).toContain('on each GPU that it was given');
    const small = refusalOf(planOn(['A', 'B'], two({}, { totalMb: 4_096 })));
    expect(small.code).toBe('never-fits');
    expect(small.message).toContain('RTX 4090 B has 4,096 MB, of which 3,584 MB after the reserve');
    expect(refusalOf(planOn(['B'], two({}, { quarantine: 'it keeps memory' }))).code).toBe('device-quarantined');
  });

  test('on a host with one GPU plans as any other', () => {
    const [card] = two();
    const tts = (change: Partial<TenantObservation>) =>
      planResidency(
        host([tenant('service/tts', { kind: 'service', driver: 'docker', ...change })], card && [card], {
          drivers: [docker],
        }),
        wanted,
        policy(),
      );
    expect(tts({ givenGpus: ['A'] })).toEqual(tts({}));
    expect(tts({ chargeMb: 20_000, givenGpus: ['A'] })).toMatchObject({ refusal: { code: 'never-fits' } });
  });
});

describe('an embedder on a GPU', () => {
  const soft = target({ [EMBEDDER]: { place: 'gpu-if-room', minFreeMb: 1024, notBeside: [] } });

  test('whose memory others took goes to another with room', () => {
    const full = two({ usedMb: 11_300, foreignMb: 11_300 });
    expect(inWords(planOf(planResidency(host([clip(on(CLIP_MB, 'A'))], full), soft, policy())))).toEqual([
      `s1 move ${EMBEDDER} to ${CPU}`,
      `s2 move ${EMBEDDER} to B after s1`,
    ]);
  });

  test('makes room for the peak of a load, and comes back beside it', () => {
    const both = { ...soft, wishes: { ...soft.wishes, [VLM]: { place: 'gpu' as const } } };
    const tight = host([vlm({ peakMb: VLM_PEAK }), clip(on(CLIP_MB))], [gpu({ totalMb: VLM_PEAK + 800 + 512 })]);
    expect(inWords(planOf(planResidency(tight, both, policy())))).toEqual([
      `s1 move ${EMBEDDER} to ${CPU}`,
      `s2 load ${VLM} after s1`,
      `s3 move ${EMBEDDER} to GPU-4090 after s1 s2`,
    ]);
  });
});

const VLM_PEAK = 13_000;

describe('a refusal says once', () => {
  test('what is wrong with several GPUs', () => {
    const lost = { health: 'lost' as const, problem: 'it is lost: reboot' };
    const { code, message } = refusalOf(plan([vlm()], two(lost, lost)));
    expect(code).toBe('device-unknown');
    expect(message.split('it is lost: reboot')).toHaveLength(2);
    expect(message).toMatch(/ A and .* B: it is lost/);
  });

  test('why several are not pushed out', () => {
    const outranked = target({ [VLM]: { place: 'gpu' } }, { asked: VLM, priority: 10 });
    const tenants = [resident('a', 11_000, 'A', { priority: 60 }), resident('b', 11_000, 'B', { priority: 60 })];
    const needs = vlm({ chargeMb: 20_000, peakMb: 20_000 });
    const { code, message } = refusalOf(planResidency(host([needs, ...tenants], two()), outranked, policy()));
    expect(code).toBe('holder-outranks');
    expect(message).toMatch(/model\/a holds .* and model\/b holds .* and are not pushed out: /);
    expect(message.split('not pushed out')).toHaveLength(2);
  });
});
