import { describe, expect, it, vi } from 'vitest';

import { makeCgroup, removeCgroup } from '../../../src/adapters/native/cgroup.js';
import { newMarker } from '../../../src/adapters/processes/spawn.js';
import { type TableEntry, treeIn } from '../../../src/adapters/processes/tree.js';
import { lives } from '../processes/owned.js';
import { DEAF, driverOf, IDLE, script, type TestDriver } from './service.js';

const marker = newMarker();
const probe = await makeCgroup(marker);
if (probe !== null) await removeCgroup(probe, marker);
const NO_CGROUP = 'this user may make no cgroup of version 2 here, so only markers find the processes';

/** Runs code in a child and prints `child <pid>` in the service's output. */
const child = (code: string, options: object = {}): string =>
  `require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(`${code} console.log("child", process.pid)`)}], ${JSON.stringify({ stdio: 'inherit', ...options })}).unref();`;

/** A child of a child that ends at once, in a session of its own: a double fork. */
const orphan = (code: string, env?: object): string =>
  child(
    `${child(code, { detached: true, ...(env === undefined ? {} : { env }) })} setTimeout(() => process.exit(0), 200);`,
    {
      detached: true,
    },
  );

async function childPid(one: TestDriver): Promise<number> {
  return Number((await one.printed('child')).split(' ')[1]);
}

describe.runIf(process.platform === 'linux')('the whole tree of a native service', () => {
  it('is seen and ended with it: children in its group, in sessions of their own, and deaf ones', async () => {
    for (const code of [child(IDLE), child(IDLE, { detached: true }), child(DEAF), child(DEAF, { detached: true })]) {
      const one = await driverOf(script(`${code} ${IDLE}`));
      const { pids } = await one.start();
      const forked = await childPid(one);
      expect((await one.sight()).pids).toEqual([pids[0], forked]);
      expect(await one.stop(300)).toBe('stopped');
      expect([await lives(pids[0] ?? 0), await lives(forked)]).toEqual([false, false]);
    }
  });

  it('has what was forked twice, after its parent has gone', async () => {
    const one = await driverOf(script(`${orphan(DEAF)} ${IDLE}`));
    const { pids } = await one.start();
    // The first line is of the orphan; the one between says its own when it ends.
    await vi.waitFor(async () => expect((await one.sight()).pids).toHaveLength(2), 10_000);
    const forked = (await one.sight()).pids.find((pid) => pid !== pids[0]) ?? 0;
    expect(await one.stop(300)).toBe('stopped');
    expect(await lives(forked)).toBe(false);
  });

  it.skipIf(probe === null)(
    `has what dropped its environment, too (${probe === null ? NO_CGROUP : 'by its cgroup'})`,
    async () => {
      const one = await driverOf(script(`setTimeout(() => { ${orphan(IDLE, { PATH: '/usr/bin' })} }, 300); ${IDLE}`));
      await one.start();
      await vi.waitFor(async () => expect((await one.sight()).pids).toHaveLength(3), 10_000);
      await vi.waitFor(async () => expect((await one.sight()).pids).toHaveLength(2), 10_000);
      const { pids } = await one.sight();
      expect(await one.stop(2_000)).toBe('stopped');
      expect(await Promise.all(pids.map(lives))).toEqual([false, false]);
    },
  );

  it('is reaped when its first process has ended, and no new run begins before', async () => {
    const one = await driverOf(
      script(`${child(DEAF, { detached: true })} process.on("SIGUSR2", () => process.exit(7)); ${IDLE}`),
    );
    const { pids } = await one.start();
    const forked = await childPid(one);
    await one.sight();
    process.kill(pids[0] ?? 0, 'SIGUSR2');
    await vi.waitFor(() => expect(one.changes).toHaveLength(1), 5_000);
    expect(one.changes).toMatchObject([{ kind: 'ended', exit: { code: 7 } }]);
    expect(one.driver.sights()).toMatchObject([{ state: 'absent', run: null, pids: [forked] }]);
    await one.start();
    expect(await lives(forked)).toBe(false);
  });
});

describe('a tree in a table of processes', () => {
  const entry = (pid: number, parts: Partial<TableEntry> = {}): TableEntry => ({
    pid,
    startTicks: pid,
    ended: false,
    parent: 1,
    group: pid,
    session: pid,
    marker: null,
    ...parts,
  });
  const root = { marker: 'm', leader: { pid: 10, startTicks: 10 }, ownSession: true, listed: [], seen: [] };
  const pidsOf = (table: TableEntry[], parts: Partial<Parameters<typeof treeIn>[1]> = {}) =>
    treeIn(table, { ...root, ...parts }).map(({ pid }) => pid);

  it('begins with the leader, and has all that can be proven', () => {
    const table = [
      entry(2, { marker: 'm' }),
      entry(3, { session: 10 }),
      entry(4, { parent: 10 }),
      entry(5, { parent: 4 }),
      entry(6, { marker: 'other', session: 9 }),
      entry(10, { marker: 'm' }),
      entry(11),
      entry(12),
    ];
    expect(pidsOf(table, { listed: [11] })).toEqual([10, 2, 3, 4, 5, 11]);
  });

  it('does not take a stranger for the leader, for a member of its session or for one seen before', () => {
    const stranger = entry(10, { startTicks: 99 });
    const table = [stranger, entry(3, { session: 10, parent: 10 }), entry(4, { startTicks: 77 })];
    expect(pidsOf(table, { seen: [entry(4)] })).toEqual([]);
    expect(pidsOf(table, { leader: null })).toEqual([]);
  });

  it('keeps one that was seen, whatever it did since', () => {
    expect(pidsOf([entry(4, { session: 4, parent: 1 })], { leader: null, seen: [entry(4)] })).toEqual([4]);
  });
});
