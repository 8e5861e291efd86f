/** A lease that lasts, or waits, for longer than one history should: it goes on in a new run, and forgets nothing. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { SIGNAL } from '../../src/contracts/messages.js';
import { workflowId } from '../../src/contracts/names.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { type System, startSystem } from '../system/system.js';

/** So few events that some news fills a run. */
const SHORT = 120;

describe('a lease of many events', { timeout: 120_000 }, () => {
  let temporal: TestServer;
  let system: System;
  beforeAll(async () => {
    temporal = await startTemporal({ dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': SHORT } });
    system = await startSystem({ temporal, speed: 10, config: { idle_timeout_seconds: 'never' } });
  });
  afterAll(async () => {
    await system.stop();
    await temporal.stop();
  });

  const handle = (id: string) => system.client.workflow.getHandle(workflowId.lease(system.host, id));
  const acquire = (id: string, mb: number, ...more: string[]) =>
    system.json<LeaseState>(['lease', 'acquire', '--id', id, '--mb', String(mb), '--ttl', '600', ...more]);
  const isHeld = (id: string) =>
    vi.waitFor(async () => {
      const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
      expect(leases).toContainEqual(expect.objectContaining({ id, state: 'held' }));
    }, 30_000);
  /** More news than one run takes. */
  const fill = async (id: string) => {
    for (let told = 0; told < SHORT; told += 1) {
      const { historyLength } = await handle(id).describe();
      if (historyLength > SHORT + 10) return;
      await handle(id).signal(SIGNAL.leasePosition, { position: 1 });
    }
  };

  it('waits on in a new run, in its place', async () => {
    await acquire('first', 20_000);
    await acquire('waits', 10_000, '--no-wait');
    const { runId } = await handle('waits').describe();
    for (let goesOn = false; !goesOn; goesOn = (await handle('waits').describe()).runId !== runId) {
      expect((await handle('waits').describe()).historyLength).toBeLessThan(10 * SHORT);
      await handle('waits').signal(SIGNAL.leasePosition, { position: 1 });
    }
    expect((await system.hostState()).leases).toEqual([{ id: 'waits', priority: 50 }]);
    await system.json(['lease', 'release', 'first']);
    await isHeld('waits');
    await system.json(['lease', 'release', 'waits']);
  });

  it('is given back by a release that comes while a renewal waits for the agent', async () => {
    await acquire('held', 10_000);
    await isHeld('held');
    await system.agent?.kill();
    await handle('held').signal(SIGNAL.renewLease, { renewal: 'again', ttlSeconds: 600 });
    await handle('held').signal(SIGNAL.releaseLease);
    await fill('held');
    await system.startAgent();
    expect(await handle('held').result()).toMatchObject({ state: 'ended', reason: 'released' });
    const { tenants } = await system.status();
    expect(tenants.filter(({ kind }) => kind === 'reservation')).toEqual([]);
  });
});
