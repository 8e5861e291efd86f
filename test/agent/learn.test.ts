/** What services are seen to take: learned at their most, charged from then on, and told of when it was not declared. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { learn } from '../../src/agent/learn.js';
import type { ServicePolicy } from '../../src/contracts/policy.js';
import { FakeDriver } from './fakeDriver.js';
import { testFolder } from './folder.js';
import { agentOnFakes, CARD } from './pieces.js';

const ONE = 'service/one';
const DECLARED_MB = 8_000;
const policy: ServicePolicy = {
  name: 'one',
  driver: 'native',
  declaredMb: DECLARED_MB,
  priority: 50,
  pinned: false,
  startTimeoutSeconds: 10,
  stopTimeoutSeconds: 10,
};

async function running(change: Parameters<typeof agentOnFakes>[0] = {}) {
  const driver = new FakeDriver();
  const health = { startPeriodMs: 1_000, intervalMs: 1_000, failuresToUnhealthy: 1, successesToReady: 1 };
  const probe = { check: () => Promise.resolve({ ok: true, detail: 'it answers', ms: 1 }) };
  const one = await agentOnFakes({
    policy: { services: [policy] },
    services: [{ name: 'one', driver, probe, health, usesGpu: true }],
    ...change,
  });
  const takes = (usedMb: number) => {
    one.card.strangers = [{ uuid: CARD, pid: driver.sight.pids[0] ?? 0, name: 'one', usedMb }];
    one.card.show();
  };
  const seen = () => one.agent.observation().tenants.find(({ id }) => id === ONE);
  const told = () => one.agent.journal.read({ types: ['footprint_drift'] });
  await one.agent.services.start('one', [CARD], AbortSignal.timeout(5_000));
  return { ...one, driver, takes, seen, told };
}

it('charges a service the most that it took, also when it has stopped and under the next agent', async () => {
  const one = await running();
  one.takes(4_000);
  expect(one.seen()).toMatchObject({ chargeMb: DECLARED_MB, chargeSource: 'declared', seenMb: 4_000 });
  one.takes(8_400);
  one.takes(2_000);
  expect(one.seen()).toMatchObject({
    chargeMb: 8_400,
    declaredMb: DECLARED_MB,
    seenMb: 8_400,
    chargeSource: 'learned',
  });
  const known = one.agent.learned.get(ONE, [CARD]);
  // Nobody measured a start.
  expect(known).toEqual({ chargeMb: 8_400, peakMb: 8_400, declaredMb: DECLARED_MB });
  await one.agent.services.stop('one', { graceMs: 0, endMs: 5_000, signal: AbortSignal.timeout(5_000) });
  const next = await agentOnFakes({ policy: { services: [policy] }, folder: one.folder });
  expect(next.agent.observation().tenants.find(({ id }) => id === ONE)).toMatchObject({ chargeMb: 8_400 });
});

it('learns anew what a service takes once its vram_mb is another: a peak of once does not lock it out for good', async () => {
  const former = await running();
  former.takes(23_400);
  await former.agent.services.stop('one', { graceMs: 0, endMs: 5_000, signal: AbortSignal.timeout(5_000) });
  const one = await running({ policy: { services: [{ ...policy, declaredMb: 7_900 }] }, folder: former.folder });
  expect(one.seen()).toMatchObject({ chargeMb: 7_900, chargeSource: 'declared' });
  // A time that was measured meanwhile gives the former figure no new life.
  learn(one.agent, ONE, [CARD], { stopMs: 500 });
  expect(one.seen()).toMatchObject({ chargeMb: 7_900, stopMs: 500 });
  one.takes(8_100);
  one.takes(2_000);
  expect(one.seen()).toMatchObject({ chargeMb: 8_100, seenMb: 8_100, chargeSource: 'learned' });
});

it('counts what a former version learned without the declared figure, until that is changed', async () => {
  const folder = testFolder();
  writeFileSync(join(folder, 'learned.json'), JSON.stringify({ [`${ONE} on ${CARD}`]: { chargeMb: 23_400 } }));
  const one = await running({ folder });
  expect(one.seen()).toMatchObject({ chargeMb: 23_400, chargeSource: 'learned' });
  learn(one.agent, ONE, [CARD], { stopMs: 500 });
  expect(one.seen()).toMatchObject({ chargeMb: 23_400 });
  const next = await agentOnFakes({ policy: { services: [{ ...policy, declaredMb: 7_900 }] }, folder });
  expect(next.agent.observation().tenants.find(({ id }) => id === ONE)).toMatchObject({ chargeMb: 7_900 });
});

it('says once for each level that a service takes far more than is declared', async () => {
  const one = await running();
  for (const mb of [8_500, 9_300, 9_300, 9_500, 3_000, 9_500]) one.takes(mb);
  expect(one.told()).toMatchObject([
    {
      subject: ONE,
      message: 'one takes 9300 MB, but its vram_mb says 8000: plans count with what it takes',
      details: { declaredMb: DECLARED_MB, seenMb: 9_300, gpus: [CARD] },
    },
  ]);
  one.takes(16_000);
  expect(one.told()).toHaveLength(2);
});

it('learns nothing of a service where nothing is measured (P9)', async () => {
  const one = await running({ readerKind: 'declared' });
  one.takes(9_999);
  expect(one.agent.learned.get(ONE, null)).toEqual({});
  expect(one.told()).toEqual([]);
});
