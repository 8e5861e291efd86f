import { describe, expect, it, vi } from 'vitest';
import { createObserveActivities } from '../../src/activities/observe.js';
import { createServiceActivities } from '../../src/activities/services.js';
import type { ManagedService } from '../../src/agent/services.js';
import { FAILURE } from '../../src/contracts/failures.js';
import type { PlanStep } from '../../src/contracts/plan.js';
import { absent, FakeDriver } from '../agent/fakeDriver.js';
import { agentOnFakes, CARD, type Pieces } from '../agent/pieces.js';
import { call, failureOf, load, run, unload } from './calls.js';

const SERVICE = 'service/one';
const CHARGE_MB = 4_096;
const start: PlanStep = { ...load({ needsMb: CHARGE_MB }), tenant: SERVICE };
const stop: PlanStep = { ...unload, tenant: SERVICE };

const untilAborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));

async function world(change: { startSeconds?: number; stopSeconds?: number; readerKind?: 'declared' } = {}) {
  const { startSeconds = 20, stopSeconds = 20, readerKind } = change;
  const driver = new FakeDriver();
  const answers = { ok: true };
  const service: ManagedService = {
    name: 'one',
    driver,
    probe: { check: () => Promise.resolve({ ok: answers.ok, detail: 'it answers', ms: 1 }) },
    health: { startPeriodMs: 60_000, intervalMs: 10, failuresToUnhealthy: 2, successesToReady: 1 },
    usesGpu: true,
  };
  const times = { startTimeoutSeconds: startSeconds, stopTimeoutSeconds: stopSeconds };
  const policy = {
    name: 'one',
    driver: 'native' as const,
    declaredMb: CHARGE_MB,
    priority: 50,
    pinned: false,
    ...times,
  };
  const pieces = await agentOnFakes({
    policy: { services: [policy] },
    services: [service],
    ...(readerKind === undefined ? {} : { readerKind }),
  });
  const { agent, card } = pieces;
  const activities = { ...createServiceActivities(agent), ...createObserveActivities(agent) };
  /** What its process holds, as the list shows it; null: `[N/A]`. */
  const hold = (usedMb: number | null) => {
    card.strangers = [{ uuid: CARD, pid: 1, name: 'one', usedMb }];
    card.show();
  };
  const end = () => {
    driver.sight = absent;
    card.strangers = [];
    card.stuckMb = 0;
    card.show();
  };
  /** Runs and holds its memory; a turn has been granted. */
  const up = async (usedMb: number | null = CHARGE_MB) => {
    await agent.services.start('one', [CARD], new AbortController().signal);
    hold(usedMb);
    await run(activities.observe, call(stop));
  };
  return { ...pieces, ...activities, driver, answers, hold, end, up };
}

const told = ({ agent }: Pieces) => agent.journal.read().map(({ type }) => type);

describe('a service whose stop does not end', () => {
  it.each([0.1, 0.5, 1])('is stuck before %d s are over, and its GPU takes nothing new', async (stopSeconds) => {
    const one = await world({ stopSeconds });
    await one.up();
    one.driver.onStop = untilAborted;
    expect(await failureOf(run(one.stopService, call(stop)))).toMatchObject({
      type: FAILURE.serviceFailed,
      message: expect.stringMatching(/^one did not end within .* s: it was killed, and is still there$/),
    });
    one.card.show();
    expect(one.agent.quarantine(CARD)).toBe('service/one was to end and is still there, with 4096 MB');
    expect(told(one)).toEqual(['quarantined']);
  });

  it('takes work again on its GPU when it is to run after all', async () => {
    const one = await world({ stopSeconds: 0.5 });
    await one.up();
    one.driver.onStop = () => Promise.resolve('stuck');
    await failureOf(run(one.stopService, call(stop)));
    expect(one.agent.quarantine(CARD)).not.toBeNull();
    expect(await run(one.startService, call(start))).toMatchObject({ acted: true });
    expect(one.agent.quarantine(CARD)).toBeNull();
    expect(one.driver.runs).toBe(1);
  });

  it('keeps its GPU until it has ended and its memory is back, and is told of then', async () => {
    const one = await world();
    await one.up();
    one.driver.onStop = () => Promise.resolve('stuck');
    await failureOf(run(one.stopService, call(stop)));
    // It lives: memory that drops proves nothing.
    one.card.strangers = [];
    for (let sample = 0; sample < 10; sample += 1) one.card.show();
    expect(one.agent.quarantine(CARD)).not.toBeNull();
    // Asked again, it is stuck still.
    one.hold(CHARGE_MB);
    await failureOf(run(one.stopService, call(stop, { round: 2 })));
    expect(told(one)).toEqual(['quarantined']);
    one.end();
    await vi.waitFor(() => expect(one.agent.quarantine(CARD)).toBeNull());
    await vi.waitFor(() => expect(told(one).sort()).toEqual(['quarantine_ended', 'quarantined', 'service_stopped']));
  });

  it('keeps its GPU where memory is declared, until it has ended (P9)', async () => {
    const one = await world({ readerKind: 'declared' });
    await one.up();
    one.driver.onStop = () => Promise.resolve('stuck');
    await failureOf(run(one.stopService, call(stop)));
    expect(one.agent.quarantine(CARD)).not.toBeNull();
    one.end();
    await vi.waitFor(() => expect(one.agent.quarantine(CARD)).toBeNull());
  });

  it('goes on, and is no reason for a quarantine, when the stop itself is given up', async () => {
    const one = await world();
    await one.up();
    one.driver.onStop = untilAborted;
    const stopping = failureOf(run(one.stopService, call(stop)));
    await vi.waitFor(() => expect(one.agent.services.view('one').health.state).toBe('stopping'));
    await run(one.observe, call(stop, { run: 'run-2', epoch: 2 }));
    expect(await stopping).toMatchObject({ type: FAILURE.fenced });
    expect([one.agent.quarantine(CARD), one.agent.reclaims.has(SERVICE)]).toEqual([null, false]);
  });

  it('keeps no GPU once it is ready after all, when the end of its start got no answer', async () => {
    const one = await world({ startSeconds: 0.5 });
    one.answers.ok = false;
    one.driver.onStop = () => Promise.reject(new Error('the daemon does not answer'));
    await run(one.observe, call(start));
    const starting = failureOf(run(one.startService, call(start)));
    await vi.waitFor(() => expect(one.driver.sight.state).toBe('running'));
    one.hold(CHARGE_MB);
    expect(await starting).toMatchObject({ type: FAILURE.serviceFailed });
    one.answers.ok = true;
    await vi.waitFor(() => {
      one.card.show();
      expect([one.agent.services.view('one').health.state, one.agent.quarantine(CARD)]).toEqual(['ready', null]);
    });
    expect(one.agent.reclaims.has(SERVICE)).toBe(false);
  });

  it('after a start that does not become ready keeps its GPU too, and within the time of the start', async () => {
    const one = await world({ startSeconds: 0.5 });
    one.answers.ok = false;
    one.driver.onStop = untilAborted;
    await run(one.observe, call(start));
    const starting = failureOf(run(one.startService, call(start)));
    await vi.waitFor(() => expect(one.driver.sight.state).toBe('running'));
    one.hold(CHARGE_MB);
    expect(await starting).toMatchObject({
      type: FAILURE.serviceFailed,
      message: expect.stringContaining('one was not ready within 0.4 s (of its 0.5 s, the rest is for ending it)'),
    });
    expect(one.agent.quarantine(CARD)).toMatch(/^service\/one was to end and is still there/);
    one.end();
    await vi.waitFor(() => expect(one.agent.quarantine(CARD)).toBeNull());
  });
});

describe('the memory of a service that ends', () => {
  /** It ends, but its memory stays until the test lets it go. */
  async function stopped(one: Awaited<ReturnType<typeof world>>) {
    one.driver.onStop = () => {
      one.driver.sight = absent;
      one.card.strangers = [];
      one.card.show();
      return Promise.resolve('stopped');
    };
    const stopping = run(one.stopService, call(stop));
    await vi.waitFor(() => expect(one.driver.sight.state).toBe('absent'), { timeout: 5_000 });
    for (let sample = 0; sample < 10; sample += 1) one.card.show();
    return stopping;
  }

  it.each([
    ['there is no list of processes', false],
    ['its figure is [N/A]', true],
  ])('is awaited where %s (law 1, P6)', async (_, listed) => {
    const one = await world({ stopSeconds: 5 });
    one.card.listed = listed;
    one.card.stuckMb = CHARGE_MB;
    await one.up(null);
    let isDone = false;
    const stopping = stopped(one).then((outcome) => {
      isDone = true;
      return outcome;
    });
    const held = [{ device: CARD, mb: CHARGE_MB }];
    await vi.waitFor(() => expect(one.agent.reclaims.unproven(SERVICE)).toEqual(held), { timeout: 5_000 });
    for (let sample = 0; sample < 10; sample += 1) one.card.show();
    expect(isDone).toBe(false);
    one.card.stuckMb = 0;
    expect((await stopping).proof.by).toBe('used memory dropped by 4096 MB');
  });

  it('goes by the list that comes a moment later', async () => {
    const one = await world();
    await one.up(1_000);
    one.card.listed = false;
    one.card.show();
    const stopping = stopped(one);
    one.card.listed = true;
    expect((await stopping).proof.by).toBe('used memory dropped by 1000 MB');
  });
});
