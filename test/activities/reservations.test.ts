import { describe, expect, it, vi } from 'vitest';
import { createObserveActivities } from '../../src/activities/observe.js';
import { createReservationActivities } from '../../src/activities/reservations.js';
import { FAILURE } from '../../src/contracts/failures.js';
import type { LeaseRequest } from '../../src/contracts/lease.js';
import type { PlanStep } from '../../src/contracts/plan.js';
import { agentOnFakes, CARD } from '../agent/pieces.js';
import { call, failureOf, run } from './calls.js';

const REQUEST: LeaseRequest = {
  id: 'blender',
  holder: 'blender on desk 3',
  mb: 6_000,
  on: 1,
  priority: 50,
  ttlSeconds: 60,
  pid: 77,
};
const TENANT = 'reservation/blender';
const step = (kind: 'load' | 'unload', needsMb = 6_000): PlanStep => {
  const base = { id: 's1', tenant: TENANT, after: [], devices: [CARD], expectedMs: 0, peakMb: {}, why: 'a test' };
  return kind === 'load'
    ? { ...base, kind, needsMb, allowCpu: false, confirms: false }
    : { ...base, kind, freesMb: {} };
};
const granting = (change: Partial<LeaseRequest> = {}, needsMb = 6_000) => ({
  ...call(step('load', needsMb)),
  goal: { kind: 'lease' as const, tenant: TENANT, request: { ...REQUEST, ...change } },
});

async function leasing(folder?: string) {
  const pieces = await agentOnFakes(folder === undefined ? {} : { folder });
  const { agent } = pieces;
  const activities = { ...createObserveActivities(agent), ...createReservationActivities(agent) };
  await run(activities.observe, call(step('load')));
  const seen = () => agent.observation().tenants.find(({ id }) => id === TENANT);
  const told = () => agent.journal.read().map(({ type }) => type);
  return { ...pieces, ...activities, seen, told };
}

describe('a reservation', () => {
  it('counts with its whole charge, and what its holder uses is not counted twice', async () => {
    const one = await leasing();
    expect(await run(one.grantReservation, granting())).toMatchObject({ acted: true });
    expect(one.seen()).toMatchObject({ state: 'resident', chargeMb: 6_000, holdings: [{ device: CARD, mb: 0 }] });
    one.card.strangers = [{ uuid: CARD, pid: 77, name: 'blender', usedMb: 4_000 }];
    one.card.show();
    expect(one.seen()).toMatchObject({ chargeMb: 6_000, holdings: [{ device: CARD, mb: 4_000 }] });
    expect(one.agent.observation().devices[0]?.foreignMb).toBe(800);
    // The same grant again, after an agent that died.
    expect(await run(one.grantReservation, granting())).toMatchObject({ acted: false });
    expect(one.told()).toEqual(['lease_granted']);
  });

  it('is not given where the memory is not there any more', async () => {
    const one = await leasing();
    const failed = await failureOf(run(one.grantReservation, granting({ mb: 30_000 }, 30_000)));
    expect(failed).toMatchObject({ type: FAILURE.premiseGone });
    expect(one.seen()).toBeUndefined();
  });

  it('is over when it expires, whatever happens to its workflow, and can be renewed before', async () => {
    const one = await leasing();
    await run(one.grantReservation, granting({ ttlSeconds: 1 }));
    const renewed = await run(one.renewReservation, 'blender', 30);
    expect((renewed?.expiresAtMs ?? 0) - Date.now()).toBeGreaterThan(20_000);
    vi.useFakeTimers({ now: Date.now() + 36_000, toFake: ['Date'] });
    try {
      expect(one.seen()).toBeUndefined();
      expect(await run(one.renewReservation, 'blender', 30)).toBeNull();
    } finally {
      vi.useRealTimers();
    }
  });

  it('survives a restart of the agent', async () => {
    const one = await leasing();
    await run(one.grantReservation, granting());
    const next = await agentOnFakes({ folder: one.folder });
    expect(next.agent.observation().tenants.some(({ id }) => id === TENANT)).toBe(true);
  });

  it('that makes room is asked for, and ends as soon as its holder gives it back', async () => {
    const one = await leasing();
    await run(one.grantReservation, granting());
    const ending = run(one.endReservation, call(step('unload')));
    await vi.waitFor(() => expect(one.seen()?.state).toBe('unloading'));
    await run(one.releaseReservation, 'blender', 'released');
    expect(await ending).toMatchObject({ acted: true, proof: { by: 'its holder gave it back' } });
    expect(one.seen()).toBeUndefined();
    expect(one.told()).toEqual(['lease_granted', 'lease_revoked', 'lease_ended']);
    // Nothing left to give back.
    await run(one.releaseReservation, 'blender', 'released');
    expect(one.told()).toHaveLength(3);
    expect(await run(one.endReservation, call(step('unload'), { round: 2 }))).toMatchObject({ acted: false });
  });

  it('ends after its grace also when whoever asked for it is gone: its holder was told so', async () => {
    const one = await leasing();
    await run(one.grantReservation, granting());
    const ending = failureOf(run(one.endReservation, call(step('unload'))));
    await vi.waitFor(() => expect(one.seen()?.state).toBe('unloading'));
    await run(one.observe, call(step('unload'), { run: 'run-2', epoch: 2 }));
    expect(await ending).toMatchObject({ type: FAILURE.fenced });
    expect(one.seen()?.state).toBe('unloading');
    vi.useFakeTimers({ now: Date.now() + 16_000, toFake: ['Date'] });
    try {
      expect(one.seen()).toBeUndefined();
    } finally {
      vi.useRealTimers();
    }
  });

  it('is asked for once, also by the agent that comes after one that was killed meanwhile', async () => {
    const one = await leasing();
    await run(one.grantReservation, granting());
    void run(one.endReservation, call(step('unload')));
    await vi.waitFor(() => expect(one.told()).toContain('lease_revoked'));
    const next = await leasing(one.folder);
    const ending = run(next.endReservation, call(step('unload'), { round: 2 }));
    await run(next.releaseReservation, 'blender', 'released');
    expect(await ending).toMatchObject({ acted: true });
    expect(next.told().filter((type) => type === 'lease_revoked')).toHaveLength(1);
    await run(one.releaseReservation, 'blender', 'released');
  });
});
