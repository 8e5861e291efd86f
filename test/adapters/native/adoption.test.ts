import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { describe, expect, it, vi } from 'vitest';
import { newMarker } from '../../../src/adapters/processes/spawn.js';
import { lookAt, OWNER_VARIABLE, readBootId, readExecutable } from '../../../src/processes/proc.js';
import { freePort } from '../../parts/ports.js';
import { asIntent, lives, tempFolder, tidyLater } from '../processes/owned.js';
import { driverOf, IDLE, script } from './service.js';

const UP = `${IDLE} console.log("up")`;

interface Stranger {
  pid: number;
  startTicks: number;
  handle: ChildProcess;
}

/** A process that somebody else started: its parent is this test. */
async function stranger(code: string, env: NodeJS.ProcessEnv = {}, detached = false): Promise<Stranger> {
  const handle = spawn(process.execPath, ['-e', `${code} console.log("up")`], {
    detached,
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH'], ...env },
  });
  tidyLater(() => void handle.kill('SIGKILL'));
  await once(createInterface(handle.stdout), 'line');
  const pid = handle.pid ?? 0;
  const sight = await lookAt(pid);
  if (typeof sight === 'string') throw new Error(`the stranger is ${sight}`);
  return { pid, startTicks: sight.startTicks, handle };
}

describe.runIf(process.platform === 'linux')('a driver that comes after another', () => {
  it('adopts what runs, by proof, and sees its end within two seconds', async () => {
    const first = await driverOf(script(UP));
    const started = await first.start(['GPU-a']);
    await first.driver.close();
    const second = await driverOf(script(UP), { stateDir: first.stateDir });
    expect(await second.sight()).toMatchObject({
      state: 'running',
      run: started.run,
      pids: started.pids,
      gpus: ['GPU-a'],
    });
    expect(await second.start()).toMatchObject({ run: started.run });
    process.kill(started.pids[0] ?? 0, 'SIGKILL');
    await vi.waitFor(() => expect(second.changes).toHaveLength(1), { timeout: 2_500, interval: 20 });
    expect(second.changes).toMatchObject([
      { kind: 'ended', exit: { code: null, signal: null, reason: expect.stringContaining('not known') } },
    ]);
  });

  it('finds by its marker what was spawned a moment before the death of its manager', async () => {
    const first = await driverOf(script(UP));
    const started = await first.start();
    await first.driver.close();
    const [record] = await first.store.list();
    if (record === undefined) throw new Error('no record');
    await first.store.write(asIntent(record));
    const second = await driverOf(script(UP), { stateDir: first.stateDir });
    expect(await second.start()).toMatchObject({ run: started.run, pids: started.pids });
    expect(await second.store.list()).toEqual([record]);
    expect(await second.stop()).toBe('stopped');
    expect(await lives(started.pids[0] ?? 0)).toBe(false);
  });

  it('forgets an intent that never became a process', async () => {
    const one = await driverOf(script(UP));
    const marker = newMarker();
    const bootId = await readBootId();
    await one.store.write({ marker, bootId, pid: null, startTicks: null, command: ['x'], gpus: [], cgroup: null });
    expect(await one.sight()).toMatchObject({ state: 'absent' });
    expect(await one.store.list()).toEqual([]);
  });

  /** Leads a group of its own, so that a signal to the group would reach it, too. Both signals would end it. */
  const leading = (env: NodeJS.ProcessEnv = {}) => stranger(IDLE, env, true);
  const recordOf = async (pid: number, startTicks: number) => ({
    marker: newMarker(),
    bootId: await readBootId(),
    pid,
    startTicks,
    command: ['x'],
    gpus: [],
    cgroup: null,
  });

  it('never signals a stranger who has the pid of a record now, and starts anew', async () => {
    const reused = await leading();
    const one = await driverOf(script(UP));
    await one.store.write(await recordOf(reused.pid, reused.startTicks - 1));
    expect(await one.stop(100)).toBe('stopped');
    expect(await one.sight()).toMatchObject({ state: 'absent', pids: [] });
    expect((await one.start()).pids).not.toContain(reused.pid);
    expect(await one.stop()).toBe('stopped');
    expect([reused.handle.exitCode, reused.handle.signalCode]).toEqual([null, null]);
  });

  it('never signals a process without our marker under pid and start time of a record, nor starts a second one', async () => {
    for (const env of [{}, { [OWNER_VARIABLE]: newMarker() }]) {
      const unmarked = await leading(env);
      const one = await driverOf(script(UP));
      await one.store.write(await recordOf(unmarked.pid, unmarked.startTicks));
      expect(await one.stop(100)).toBe('stuck');
      expect(await one.sight()).toMatchObject({ state: 'unknown' });
      await expect(one.start()).rejects.toMatchObject({
        kind: 'failed',
        message: expect.stringContaining('not known'),
      });
      expect([unmarked.handle.exitCode, unmarked.handle.signalCode]).toEqual([null, null]);
      unmarked.handle.kill('SIGKILL');
      await vi.waitFor(async () => expect(await one.sight()).toMatchObject({ state: 'absent' }), 5_000);
    }
  });

  it('knows its own child though that lost the marker; a successor does so by its cgroup, or is in doubt', async () => {
    const code = `exec env -i ${process.execPath} -e '${UP}'`;
    const service = { name: 'one', argv: ['/bin/sh', '-c', code] as [string, ...string[]] };
    const first = await driverOf(service);
    const { run } = await first.start();
    await first.printed('up');
    expect(await first.sight()).toMatchObject({ state: 'running', run });
    const [record] = await first.store.list();
    if (record === undefined) throw new Error('no record');
    const second = await driverOf(service, { stateDir: first.stateDir });
    expect((await second.sight()).state).toBe(record.cgroup === null ? 'unknown' : 'running');
    await first.store.write({ ...record, cgroup: null });
    const third = await driverOf(service, { stateDir: first.stateDir });
    expect(await third.sight()).toMatchObject({ state: 'unknown', run });
    expect(await third.stop(100)).toBe('stuck');
    await first.store.write(record);
    expect(await first.stop()).toBe('stopped');
    expect(await lives(record.pid ?? 0)).toBe(false);
  });

  it('does not trust a record that names the cgroup of others', async () => {
    const one = await driverOf(script(UP));
    const other = await driverOf(script(UP));
    const { pids } = await other.start();
    const [theirs] = await other.store.list();
    const record = { marker: newMarker(), bootId: await readBootId(), pid: null, startTicks: null, command: ['x'] };
    await one.store.write({ ...record, gpus: [], cgroup: theirs?.cgroup ?? '/sys/fs/cgroup' });
    expect(await one.stop(0)).toBe('stopped');
    expect(await lives(pids[0] ?? 0)).toBe(true);
  });
});

describe.runIf(process.platform === 'linux')('a service that was started by hand', () => {
  const SERVE = (port: number) =>
    `require("http").createServer().listen(${port}, "127.0.0.1", () => console.log("up"));`;
  const match = (code: string) => ({
    executable: process.execPath,
    argv: [process.execPath, '-e', `${code} console.log("up")`] as [string, ...string[]],
  });

  it('is foreign without a match, and adopted, seen and stopped with one', async () => {
    const code = `${IDLE} /* ${newMarker()} */`;
    const byHand = await stranger(code);
    const unmatched = await driverOf(script(code));
    expect(await unmatched.sight()).toMatchObject({ state: 'absent' });
    const one = await driverOf(script(code, { match: match(code) }));
    const sight = await one.sight();
    expect(sight).toMatchObject({ state: 'running', pids: [byHand.pid] });
    expect(sight).not.toHaveProperty('gpus');
    expect(await one.start()).toMatchObject({ run: sight.run });
    expect(await one.stop()).toBe('stopped');
    expect(byHand.handle.signalCode).toBe('SIGTERM');
    expect(await one.sight()).toMatchObject({ state: 'absent', run: null });
    // Stopped and started again, it is ours.
    expect((await one.start()).gpus).toEqual([]);
  });

  it('is ended with its descendants, but its group is left alone', async () => {
    const worker = `setTimeout(() => { process.on("SIGTERM", () => {}); ${IDLE} }, 0)`;
    const code = `require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(worker)}]); ${IDLE} /* ${newMarker()} */`;
    const byHand = await stranger(code);
    const one = await driverOf(script(code, { match: match(code) }));
    await vi.waitFor(async () => expect((await one.sight()).pids).toHaveLength(2), 5_000);
    const { pids } = await one.sight();
    // Started without a group of its own, it is in that of this test, which must survive this.
    expect((await lookAt(byHand.pid)) as object).toHaveProperty(
      'group',
      expect.not.toSatisfy((group) => group === byHand.pid),
    );
    expect(await one.stop(500)).toBe('stopped');
    expect(await Promise.all(pids.map(lives))).toEqual([false, false]);
  });

  it('is told when it comes and when it goes', async () => {
    const code = `${IDLE} /* ${newMarker()} */`;
    const one = await driverOf(script(code, { match: match(code) }));
    expect(await one.sight()).toMatchObject({ state: 'absent' });
    const byHand = await stranger(code);
    await vi.waitFor(() => expect(one.changes).toEqual([{ kind: 'started', service: 'one' }]), 15_000);
    byHand.handle.kill('SIGKILL');
    await vi.waitFor(() => expect(one.changes).toMatchObject([{}, { kind: 'ended', service: 'one' }]), 3_000);
  });

  it('is not known when two match, and neither is signalled nor a third one started', async () => {
    const code = `${IDLE} /* ${newMarker()} */`;
    const both = [await stranger(code), await stranger(code)];
    const one = await driverOf(script(code, { match: match(code) }));
    expect(await one.sight()).toMatchObject({ state: 'unknown', run: null });
    await expect(one.start()).rejects.toMatchObject({ kind: 'failed', message: expect.stringContaining('both match') });
    expect(await one.stop(100)).toBe('stuck');
    for (const { handle } of both) expect([handle.exitCode, handle.signalCode]).toEqual([null, null]);
  });

  it('is told apart by its port', async () => {
    const code = `if (process.env.PORT) { ${SERVE(0).replace('listen(0', 'listen(Number(process.env.PORT)')} } ${IDLE} /* ${newMarker()} */`;
    const port = await freePort();
    await stranger(code);
    const serving = await stranger(code, { PORT: String(port) });
    const one = await driverOf(script(code, { match: { ...match(code), port } }));
    await vi.waitFor(
      async () => expect(await one.sight()).toMatchObject({ state: 'running', pids: [serving.pid] }),
      5_000,
    );
  });

  it('does not match another argument or another executable', async () => {
    const code = `${IDLE} /* ${newMarker()} */`;
    const byHand = await stranger(code);
    const other = match(`${code} `);
    expect(await (await driverOf(script(code, { match: other }))).sight()).toMatchObject({ state: 'absent' });
    for (const executable of ['/bin/sh', '/no/such/program', 'no-such-program']) {
      const elsewhere = { ...match(code), executable };
      expect(await (await driverOf(script(code, { match: elsewhere }))).sight()).toMatchObject({ state: 'absent' });
    }
    expect(await readExecutable(byHand.pid)).toBe(process.execPath);
  });

  it('is found by its program, whatever name it was called by, on the PATH or by a link', async () => {
    const code = `${IDLE} /* ${newMarker()} */`;
    const folder = await tempFolder();
    const link = join(folder, 'interpreter');
    await symlink(process.execPath, link);
    const byHand = await stranger(code);
    const argv: [string, ...string[]] = [link, '-e', `${code} console.log("up")`];
    const one = await driverOf(script(code, { match: { executable: link, argv } }));
    expect(await one.sight()).toMatchObject({ state: 'running', pids: [byHand.pid] });
    const named = { executable: process.execPath, argv };
    expect(await (await driverOf(script(code, { match: named }))).sight()).toMatchObject({ state: 'absent' });
  });

  it('is no longer ours to stop once it shows another command line', async () => {
    const code = `process.on("SIGUSR2", () => { process.title = "somebody else"; }); ${IDLE} /* ${newMarker()} */`;
    const byHand = await stranger(code);
    const one = await driverOf(script(code, { match: match(code) }));
    expect(await one.sight()).toMatchObject({ state: 'running' });
    process.kill(byHand.pid, 'SIGUSR2');
    await vi.waitFor(async () => expect(await one.sight()).toMatchObject({ state: 'unknown' }), 5_000);
    expect(await one.stop(100)).toBe('stuck');
    expect([byHand.handle.exitCode, byHand.handle.signalCode]).toEqual([null, null]);
  });
});
