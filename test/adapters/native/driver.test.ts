import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it, vi } from 'vitest';

import type { NativeService } from '../../../src/adapters/native/service.js';
import { DECLARED_GPU } from '../../../src/contracts/names.js';
import { freePort } from '../../parts/ports.js';
import { lives, tempFolder } from '../processes/owned.js';
import { DEAF, driverOf, IDLE, never, script, takenPort } from './service.js';

const GPUS = ['GPU-11111111-0000-4000-8000-000000000001', 'GPU-11111111-0000-4000-8000-000000000002'];

describe.runIf(process.platform === 'linux')('a native service', () => {
  it('is unknown before the first look, then absent, running and absent again', async () => {
    const one = await driverOf(script(`${IDLE} console.log("up")`));
    expect(one.driver.sights()).toMatchObject([{ service: 'one', state: 'unknown', run: null }]);
    expect(await one.sight()).toMatchObject({
      state: 'absent',
      run: null,
      pids: [],
      runningForMs: null,
      lastExit: null,
    });
    const started = await one.start(GPUS);
    expect(started).toMatchObject({ state: 'running', gpus: GPUS, pids: [expect.any(Number)] });
    expect(started.runningForMs).toBeLessThan(10_000);
    expect(await one.start(GPUS)).toMatchObject({ run: started.run, pids: started.pids });
    expect(await one.stop()).toBe('stopped');
    expect(await lives(started.pids[0] ?? 0)).toBe(false);
    expect(await one.sight()).toMatchObject({ state: 'absent', lastExit: { code: null, signal: 'SIGTERM' } });
    expect(await one.stop()).toBe('stopped');
    expect(await one.store.list()).toEqual([]);
    const again = await one.start();
    expect(again.run).not.toBe(started.run);
    // What a start and a stop did themselves is no news.
    expect(one.changes).toEqual([]);
  });

  it('sees its GPUs, its own environment and folder, and no secret of the agent', async () => {
    const folder = await tempFolder();
    process.env['VRAMFLOW_TEST_SECRET'] = 'secret';
    const show =
      'const { CUDA_VISIBLE_DEVICES: gpus, MINE: mine, VRAMFLOW_TEST_SECRET: secret, HOME: home } = process.env; console.log(JSON.stringify({ gpus, mine, secret, home, cwd: process.cwd(), end: 1 }));';
    const one = await driverOf(script(`${show} ${IDLE}`, { env: { MINE: 'yes' }, cwd: folder }));
    await one.start(GPUS);
    const shown = JSON.parse(await one.printed('"end"')) as object;
    expect(shown).toEqual({ gpus: GPUS.join(','), mine: 'yes', home: process.env['HOME'], cwd: folder, end: 1 });
    await one.stop();
    await one.start([]);
    expect(JSON.parse(await one.printed('"end"'))).toMatchObject({ gpus: '' });
    delete process.env['VRAMFLOW_TEST_SECRET'];
  });

  it('sees what its own environment shows it where the only GPU is declared (P9)', async () => {
    const show = 'console.log(JSON.stringify({ gpus: process.env.CUDA_VISIBLE_DEVICES ?? null, end: 1 }));';
    for (const [env, gpus] of [
      [{}, null],
      [{ CUDA_VISIBLE_DEVICES: '1' }, '1'],
    ] as const) {
      const one = await driverOf(script(`${show} ${IDLE}`, { env }));
      expect(await one.start([DECLARED_GPU])).toMatchObject({ gpus: [DECLARED_GPU] });
      expect(JSON.parse(await one.printed('"end"'))).toMatchObject({ gpus });
    }
  });

  it('is killed after the grace when it does not hear SIGTERM', async () => {
    const one = await driverOf(script(`${DEAF} console.log("up")`));
    const { pids } = await one.start();
    await one.printed('up');
    const begun = performance.now();
    expect(await one.stop(300)).toBe('stopped');
    expect(performance.now() - begun).toBeGreaterThanOrEqual(300);
    expect(await lives(pids[0] ?? 0)).toBe(false);
    expect(await one.printed('heard')).toBe('heard');
    expect(await one.sight()).toMatchObject({ lastExit: { signal: 'SIGKILL' } });
  });

  it('is killed all the same when the time of its stop is over before the kill was due', async () => {
    const one = await driverOf(script(`${DEAF} console.log("up")`));
    const { pids } = await one.start();
    await one.printed('up');
    const stop = one.driver.stop('one', { graceMs: 60_000, signal: AbortSignal.timeout(300) });
    await expect(stop).rejects.toMatchObject({ name: 'TimeoutError' });
    await vi.waitFor(() => expect(one.driver.sights()).toMatchObject([{ state: 'absent' }]), 5_000);
    expect(await lives(pids[0] ?? 0)).toBe(false);
    expect(await one.printed('heard')).toBe('heard');
  });

  it('also when that was over before its turn came', async () => {
    const one = await driverOf(script(`${DEAF} console.log("up")`));
    const { pids } = await one.start();
    await one.printed('up');
    const signal = AbortSignal.abort(new DOMException('over', 'TimeoutError'));
    await expect(one.driver.stop('one', { graceMs: 60_000, signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    await vi.waitFor(() => expect(one.driver.sights()).toMatchObject([{ state: 'absent' }]), 5_000);
    expect(await lives(pids[0] ?? 0)).toBe(false);
  });

  it('goes on when its stop is given up', async () => {
    const one = await driverOf(script(`${IDLE} console.log("up")`));
    const { pids } = await one.start();
    const signal = AbortSignal.abort(new Error('nobody wants it any more'));
    await expect(one.driver.stop('one', { graceMs: 1_000, signal })).rejects.toThrow('nobody wants it');
    expect(await lives(pids[0] ?? 0)).toBe(true);
  });

  it('tells at once that it ended, and how', async () => {
    const one = await driverOf(script('process.stdin.resume(); setTimeout(() => process.exit(3), 300)'));
    await one.start();
    await vi.waitFor(() => expect(one.changes).toHaveLength(1), 5_000);
    const exit = { code: 3, signal: null, reason: 'exit code 3' };
    expect(one.changes).toEqual([{ kind: 'ended', service: 'one', exit }]);
    expect(one.driver.sights()).toMatchObject([{ state: 'absent', run: null, lastExit: exit }]);
  });

  it('goes on without its driver', async () => {
    const one = await driverOf(script(`${IDLE} console.log("up")`));
    const { pids } = await one.start();
    await one.driver.close();
    expect(await lives(pids[0] ?? 0)).toBe(true);
  });

  it('leaves nothing of a start that was given up', async () => {
    const one = await driverOf(script(IDLE));
    const given = new AbortController();
    const start = one.driver.start('one', { gpus: [], signal: given.signal });
    given.abort(new Error('enough'));
    await expect(start).rejects.toThrow('enough');
    expect(await one.sight()).toMatchObject({ state: 'absent', pids: [] });
    expect(await one.store.list()).toEqual([]);
  });
});

describe.runIf(process.platform === 'linux')('a start that cannot be', () => {
  async function failure(service: NativeService) {
    const one = await driverOf(service);
    const error: unknown = await one.start().catch((reason: unknown) => reason);
    expect(await one.sight()).toMatchObject({ state: 'absent' });
    return error;
  }

  it('says which key names a program that is not there', async () => {
    for (const program of ['/no/such/program', 'no-such-program-anywhere', './missing']) {
      expect(await failure({ name: 'one', argv: [program] })).toMatchObject({
        kind: 'missing',
        message: expect.stringContaining(program.replace('./', '')),
        remedy: expect.stringContaining('services.one.run'),
      });
    }
    expect(await failure(script(IDLE, { cwd: '/no/such/folder' }))).toMatchObject({
      kind: 'missing',
      remedy: expect.stringContaining('services.one.directory'),
    });
  });

  it('says that a file is not executable, or is no program', async () => {
    const folder = await tempFolder();
    const file = join(folder, 'server');
    await writeFile(file, '#!/bin/sh\nsleep 60\n', { mode: 0o644 });
    expect(await failure({ name: 'one', argv: [file] })).toMatchObject({
      kind: 'not-permitted',
      remedy: expect.stringContaining(`chmod +x ${file}`),
    });
    await mkdir(join(folder, 'folder'));
    expect(await failure({ name: 'one', argv: [join(folder, 'folder')] })).toMatchObject({ kind: 'missing' });
    await writeFile(file, '#!/no/such/interpreter\n');
    await chmod(file, 0o755);
    expect(await failure({ name: 'one', argv: [file] })).toMatchObject({ kind: 'missing' });
  });

  it('names the stranger who has its port', async () => {
    const port = await takenPort();
    expect(await failure(script(IDLE, { ports: [port] }))).toMatchObject({
      kind: 'port-taken',
      message: expect.stringMatching(new RegExp(`Port ${port}.* process ${process.pid} \\(.*node`)),
    });
  });

  it('names every port that is taken, not only the first', async () => {
    const [free, ...taken] = [await freePort(), await takenPort(), await takenPort()];
    const error = failure(script(IDLE, { ports: [free, ...taken] }));
    await expect(error).resolves.toMatchObject({
      kind: 'port-taken',
      message: expect.stringMatching(new RegExp(`Port ${taken[0]}.*by process ${process.pid}.*Port ${taken[1]}`)),
      remedy: expect.stringContaining('services.one.ports'),
    });
    await expect(error).resolves.toMatchObject({ message: expect.not.stringContaining(`Port ${free}`) });
  });

  it('is refused where natives would end with the agent', async () => {
    const owning = { ok: false as const, reason: 'The agent runs in a container.', remedy: 'Run it outside.' };
    const one = await driverOf(script(IDLE), { owning });
    expect(one.driver.problem()).toBe('The agent runs in a container. Run it outside.');
    await expect(one.start()).rejects.toMatchObject({ kind: 'not-permitted', remedy: 'Run it outside.' });
    expect(await one.sight()).toMatchObject({ state: 'unknown' });
    await expect(one.driver.stop('one', { graceMs: 0, signal: never() })).rejects.toMatchObject({
      kind: 'not-permitted',
    });
  });
});
