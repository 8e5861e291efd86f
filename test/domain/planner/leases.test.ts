/** Leases over GPUs: which they take, whole or not at all, and what is said of them. */
import { describe, expect, test } from 'vitest';
import type { LeaseRequest } from '../../../src/contracts/lease.js';
import type { DeviceObservation, TenantObservation } from '../../../src/contracts/residency.js';
import { explainPlan } from '../../../src/domain/explainPlan.js';
import { leaseWords } from '../../../src/domain/lease.js';
import { planResidency } from '../../../src/domain/planResidency.js';
import { reservationOf, withAsked } from '../../../src/domain/reservations.js';
import { resolveTarget } from '../../../src/domain/resolveTarget.js';
import { drivers, gpu, host, intents, on, planOf, policy, refusalOf, target, tenant, VLM, vlm } from './hosts.js';

const card = (id: string, change: Partial<DeviceObservation> = {}) =>
  gpu({ id, name: `Card ${id}`, totalMb: 24_512, usedMb: 0, foreignMb: 0, ...change });
const small = (id: string) => card(id, { totalMb: 12_512 });
const request = (change: Partial<LeaseRequest> = {}): LeaseRequest => ({
  id: 'asked',
  holder: 'the one who asks',
  mb: null,
  priority: 50,
  ttlSeconds: 60,
  pid: null,
  ...change,
});
const leases = [...drivers(), { ...drivers()[1], id: 'leases' as const }] as ReturnType<typeof drivers>;

function plan(change: Partial<LeaseRequest>, devices: DeviceObservation[], tenants: TenantObservation[] = []) {
  const goal = { kind: 'lease' as const, tenant: 'reservation/asked', request: request(change) };
  const observed = withAsked(host(tenants, devices, { drivers: leases }), goal, policy());
  return planResidency(observed, resolveTarget(goal, intents(), policy(), observed), policy());
}
const step = (...asked: Parameters<typeof plan>) => planOf(plan(...asked)).steps.at(-1);
const resident = (name: string, mb: number, device: string, change: Partial<TenantObservation> = {}) =>
  tenant(`model/${name}`, { ...on(mb, device), chargeMb: mb, ...change });
/** One that is held; its holder uses nothing of it yet. */
const held = (shares: Record<string, number>, change: Partial<LeaseRequest> = {}) =>
  reservationOf(
    request({ id: 'k3j9', holder: 'trainer', ...change }),
    Object.values(shares).reduce((sum, mb) => sum + mb, 0),
    {
      state: 'resident',
      holdings: Object.entries(shares).map(([device, promisedMb]) => ({ device, mb: 0, promisedMb })),
    },
  );

describe('a lease over several GPUs', () => {
  const three = [card('A'), card('B'), small('C')];

  test('has its MB on each of them, the fullest that have room', () => {
    const busy = [resident('a', 6000, 'A')];
    expect(step({ mb: 10_000, on: 2 }, three, busy)).toMatchObject({ devices: ['A', 'C'], needsMb: 20_000 });
  });

  test('on those that are named, and no other', () => {
    expect(step({ mb: 10_000, on: ['B', 'C'] }, three)).toMatchObject({ devices: ['B', 'C'], needsMb: 20_000 });
    expect(step({ mb: null, on: ['C'] }, three)).toMatchObject({ devices: ['C'], needsMb: 12_000 });
  });

  test('whole ones are the largest, each as strangers leave it', () => {
    const desktop = [card('A'), card('B', { usedMb: 800, foreignMb: 800 }), small('C')];
    expect(step({ on: 2 }, desktop)).toMatchObject({ devices: ['A', 'B'], needsMb: 24_000 + 23_200 });
    expect(step({ on: 3 }, desktop)).toMatchObject({ devices: ['A', 'B', 'C'], needsMb: 24_000 + 23_200 + 12_000 });
    expect(step({}, desktop)).toMatchObject({ devices: ['A'], needsMb: 24_000 });
  });

  test('is granted whole or not at all', () => {
    const taken = [held({ B: 24_000 })];
    const refusal = refusalOf(plan({ mb: 20_000, on: 2 }, three, taken));
    expect(refusal.code).toBe('holder-outranks');
    expect(refusal.message).toMatch(/needs 20,000 MB on each of 2 GPUs, .*\(trainer\) holds 24,000 MB on Card B/);
  });

  test('pushes out on each of them no more than it must', () => {
    const busy = [resident('a', 20_000, 'A'), resident('b', 20_000, 'B'), resident('c', 1000, 'C')];
    const found = planOf(plan({ mb: 10_000, on: 2 }, three, busy));
    expect(found.displaced).toEqual(['model/a']);
    expect(found.steps.at(-1)).toMatchObject({ devices: ['A', 'C'] });
  });

  test.each([
    ['more than there are', { mb: 1000, on: 4 }, /needs 1,000 MB on each of 4 GPUs, and this host has 3$/],
    ['more than are large enough', { mb: 20_000, on: 3 }, /large enough are only Card A and Card B/],
    ['larger than all', { mb: 90_000, on: 2 }, /the largest GPU, Card A, has 24,512 MB, of which 24,000 MB/],
    ['a named one that is too small', { mb: 20_000, on: ['C'] }, /the largest GPU asked for, Card C, has 12,512 MB/],
    ['one that is not there', { on: ['B', 'X'] }, /needs 2 whole GPUs, and this host has no X: it has A, B and C/],
  ])('%s is never granted, and not waited for', (_what, asked, message) => {
    expect(refusalOf(plan(asked, three))).toMatchObject({
      code: 'never-fits',
      message: expect.stringMatching(message),
    });
  });

  test('nor is any where there is no GPU', () => {
    expect(refusalOf(plan({}, [])).code).toBe('no-gpu');
  });

  test('keeps on each of its GPUs what was promised there, also where its holder uses the other one only', () => {
    const both = held({ A: 20_000, B: 20_000 });
    const used = { ...both, holdings: both.holdings.map((one) => (one.device === 'A' ? { ...one, mb: 9_000 } : one)) };
    for (const holder of [both, used]) {
      const refusal = refusalOf(plan({ mb: 6_000, on: ['B'] }, three, [holder]));
      expect(refusal.message).toContain('reservation/asked needs 6,000 MB, and Card B has 4,000 MB left of 24,512 MB');
      expect(refusal.message).toContain('holds 40,000 MB on Card A and Card B');
    }
  });
});

describe('the holder of a lease is named', () => {
  const full = [card('A')];
  const load = (priority: number) => {
    const observed = host([vlm(), held({ A: 20_000 })], full, { drivers: leases });
    const wanted = target({ [VLM]: { place: 'gpu' } }, { asked: VLM, priority });
    return { observed, planned: planResidency(observed, wanted, policy()) };
  };

  test('in a refusal', () => {
    const { message, remedy } = refusalOf(load(10).planned);
    expect(message).toContain('reservation/k3j9 (trainer) holds 20,000 MB on Card A and is not pushed out');
    expect(remedy).toContain('`vramflow lease release k3j9`');
  });

  test('in a plan', () => {
    const { observed, planned } = load(100);
    const lines = explainPlan(planned, observed).join('\n');
    expect(lines).toContain('end reservation/k3j9 (trainer)');
    expect(lines).toContain('displaces reservation/k3j9 (trainer)');
  });
});

test('what was asked for, in words', () => {
  const words = ([mb, on]: [number | null, (number | string[])?]) => leaseWords({ mb, ...(on ? { on } : {}) });
  expect(words([null])).toBe('a whole GPU');
  expect(words([null, ['A', 'B']])).toBe('2 whole GPUs');
  expect(words([6000])).toBe('6000 MB');
  expect(words([6000, 2])).toBe('6000 MB on each of 2 GPUs');
});
