/** P7 and P5 for programs outside: leases on the simulated host at speed 1. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { workflowId } from '../../src/contracts/names.js';
import { lookAt } from '../../src/processes/proc.js';
import { freePort } from '../parts/ports.js';
import { CLIENT } from '../system/children.js';
import { expectNoViolation, type Printed } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';

describe('a lease', { timeout: 60_000 }, () => {
  let system: System;
  let gateway: string;
  beforeAll(async () => {
    const listen = `127.0.0.1:${await freePort()}`;
    gateway = `http://${listen}/gpu`;
    system = await startSystem({
      config: { idle_timeout_seconds: 'never', gateway: { listen, open_routes: ['/gpu/*'] } },
    });
  });
  afterEach(() => expectNoViolation(system));
  afterAll(() => system.stop());

  const acquire = (id: string, mb: number, ...more: string[]) =>
    system.json<LeaseState>(['lease', 'acquire', '--id', id, '--mb', String(mb), ...more]);
  const states = async () => {
    const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
    return Object.fromEntries(leases.map(({ id, state, position }) => [id, position === null ? state : position]));
  };
  const isOver = (id: string) => vi.waitFor(async () => expect(await states()).not.toHaveProperty(id), 15_000);

  it('keeps memory free, with a fencing token, until it is released', async () => {
    const state = await acquire('a', 15_000, '--ttl', '120');
    expect(state).toMatchObject({ state: 'held', gpus: [expect.stringMatching(/^GPU-/)] });
    expect(Object.values(state.epochs).every((epoch) => epoch > 0)).toBe(true);
    const refused = await system.json<Printed>(['model', 'load', VLM, '--no-wait']);
    expect(refused.workflow_id).toContain('model/');
    // A person's load outranks it; a second lease of the same priority does not, and waits.
    await system.client.workflow.getHandle(refused.workflow_id).result();
    await isOver('a');
    await system.json(['model', 'unload', VLM]);
  });

  it('waits in line by priority, and gets the memory that another gives back', async () => {
    await acquire('first', 20_000, '--ttl', '120');
    await acquire('low', 10_000, '--priority', '10', '--no-wait');
    await acquire('high', 10_000, '--priority', '50', '--no-wait');
    await vi.waitFor(async () => expect(await states()).toEqual({ first: 'held', high: 1, low: 2 }), 10_000);
    await system.json(['lease', 'release', 'first']);
    await vi.waitFor(async () => expect(await states()).toEqual({ high: 'held', low: 'held' }), 15_000);
    await system.json(['lease', 'release', 'high']);
    await system.json(['lease', 'release', 'low']);
    await isOver('high');
    await isOver('low');
  });

  it('ends by a durable timer when nobody renews it, also over a kill of both workers', async () => {
    const { expiresAt } = await acquire('short', 4_000, '--ttl', '4');
    await system.json(['lease', 'renew', 'short', '--ttl', '6']);
    await system.control?.kill();
    await system.agent?.kill();
    system.startControl();
    await system.startAgent();
    await isOver('short');
    expect(Date.now()).toBeGreaterThan(Date.parse(expiresAt ?? ''));
    const { tenants } = await system.status();
    expect(tenants.some(({ kind }) => kind === 'reservation')).toBe(false);
    const late = await system.cli('lease', 'renew', 'short');
    expect(late).toMatchObject({ code: 2, stderr: expect.stringContaining('There is no lease "short"') });
  });

  it('runs a command, and ends it when something of higher priority needs the memory', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vramflow-lease-'));
    const log = join(folder, 'log');
    const script = `const fs = require('fs'); fs.appendFileSync(${JSON.stringify(log)}, 'began with ' + process.env.CUDA_VISIBLE_DEVICES + ' '); process.on('SIGTERM', () => { fs.appendFileSync(${JSON.stringify(log)}, 'asked '); process.exit(7); }); setInterval(() => {}, 1e3);`;
    const running = system.cli('lease', 'run', '--id', 'job', '--mb', '18000', '--', process.execPath, '-e', script);
    await vi.waitFor(() => expect(readFileSync(log, 'utf8')).toContain('began'), 15_000);
    const { outcome } = await system.json<Printed>(['mode', 'recording']);
    expect(outcome.steps.map(({ tenant }) => tenant)).toContain('reservation/job');
    // Given back at once, not after the grace.
    expect(outcome.steps.find(({ tenant }) => tenant === 'reservation/job')?.ms).toBeLessThan(5_000);
    expect(await running).toMatchObject({ code: 7 });
    expect(readFileSync(log, 'utf8')).toMatch(/^began with GPU-[-0-9a-f]+ asked $/);
    rmSync(folder, { recursive: true });
  });

  it('ends what its command left behind before it is given back, also what hears no SIGTERM or has a session of its own', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vramflow-lease-'));
    const [script, child, left] = [join(folder, 'stays.sh'), join(folder, 'child'), join(folder, 'left')];
    writeFileSync(script, `trap '' TERM; echo $$ > "$1.new"; mv "$1.new" "$1"; while :; do sleep 0.2; done`);
    const command = `sh ${script} ${child} & (setsid sh ${script} ${left} &)
      while [ ! -e ${child} ] || [ ! -e ${left} ]; do sleep 0.1; done; exit 4`;
    const running = system.cli('lease', 'run', '--id', 'tree', '--mb', '18000', '--', 'sh', '-c', command);
    const live = () =>
      Promise.all([child, left].map((file) => lookAt(Number(readFileSync(file, 'utf8'))))).then((sights) =>
        sights.map((sight) => typeof sight !== 'string' && !sight.ended),
      );
    await vi.waitFor(async () => expect(await live()).toEqual([true, true]), 15_000);
    // The command itself is over soon; what it left has the lease until it is killed.
    expect(await states()).toMatchObject({ tree: 'held' });
    expect(await running).toMatchObject({ code: 4 });
    expect(await live()).toEqual([false, false]);
    await isOver('tree');
    rmSync(folder, { recursive: true });
  });

  const run = (...argv: string[]) => system.cli('lease', 'run', ...argv, '--', process.execPath, '-e', '');

  it('that waits says who holds the memory and what can be done, and gives up in time', async () => {
    await acquire('k3j9', 20_000, '--ttl', '120', '--priority', '60', '--holder', 'blender on desk 3');
    const late = await run('--id', 'late', '--mb', '10000', '--wait', '10s');
    expect(late).toMatchObject({ code: 3, stdout: '' });
    expect(late.stderr).toMatch(/lease late waits.*reservation\/k3j9 \(blender on desk 3\) holds 20,000 MB/);
    expect(late.stderr).toMatch(/`vramflow lease release k3j9`.*higher --priority \(this one has 50\)/);
    expect(late.stderr).toMatch(/Ctrl-C ends the waiting, and it gives up after 10 s/);
    expect(late.stderr).toMatch(/error: Lease late was not granted within 10 s: .*\(blender on desk 3\) holds/);
    const never = await run('--id', 'never', '--mb', '10000', '--no-wait');
    expect(never).toMatchObject({
      code: 3,
      stdout: '',
      stderr: expect.stringMatching(/Lease never was not granted at once/),
    });
    expect(await system.cli('lease', 'acquire', '--mb', '10000', '--wait', '0')).toMatchObject({ code: 3, stdout: '' });
    // None of them stays in line.
    await vi.waitFor(async () => expect(await states()).toEqual({ k3j9: 'held' }), 10_000);
    await system.json(['lease', 'release', 'k3j9']);
    await isOver('k3j9');
  });

  it('says that it is granted', async () => {
    const { code, stderr } = await run('--id', 'quick', '--mb', '1000');
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/lease quick is granted: 1000 MB on GPU-/),
    });
    const acquired = await system.cli('lease', 'acquire', '--id', 'also', '--mb', '1000');
    expect(acquired.stdout).toMatch(/^lease also is granted: 1000 MB on GPU-/);
    await system.json(['lease', 'release', 'also']);
    await isOver('also');
    await isOver('quick');
  });

  it('is renewed and given back also when nobody reads any more what is said of it', async () => {
    const words = ['lease', 'run', '--id', 'unread', '--mb', '1000', '--', 'sh', '-c', 'sleep 1; exit 7'];
    const running = spawn(process.execPath, [CLIENT, ...words], { env: system.env, stdio: ['ignore', 'pipe', 'pipe'] });
    running.stderr.destroy();
    expect((await once(running, 'exit'))[0]).toBe(7);
    await isOver('unread');
  });

  it('of a command that cannot be run is not taken', async () => {
    expect(await system.cli('lease', 'run', '--id', 'lost', '--mb', '1000', '--', 'no-such-program')).toMatchObject({
      code: 127,
      stdout: '',
      stderr: expect.stringMatching(/^error: The program no-such-program is not found on the PATH\.\n/),
    });
    expect(await system.cli('lease', 'run', '--mb', '1000', '--', './vramflow.yaml')).toMatchObject({ code: 126 });
    expect(await states()).not.toHaveProperty('lost');
  });

  it('refused to a command is an error: stdout is the command’s', async () => {
    const { code, stdout, stderr } = await run('--id', 'giant', '--mb', '90000');
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' });
    expect(stderr).toMatch(
      /error: Lease giant is refused: .*reservation\/giant needs 90,000 MB.*\n {2}Ask for less with `--mb`\.\n$/,
    );
  });

  it('says that the mode lacks what it pushed out, and gives that back when it ends', async () => {
    await system.json(['mode', 'recording']);
    await acquire('train', 20_000, '--ttl', '120', '--priority', '60');
    const status = await system.status();
    expect(status).toMatchObject({ execution_mode: 'recording', vlm_state: 'unloaded', degraded_mode: true });
    expect(status.degraded_reason).toMatch(
      /^mode recording wants model\/qwen3-vl:8b, displaced by lease train \(.+\); /,
    );
    await system.json(['lease', 'release', 'train']);
    const after = await system.until('the model is back', ({ vlm_state }) => vlm_state === 'loaded');
    expect(after).toMatchObject({ degraded_mode: false, degraded_reason: null });
  });

  it('gives back what it pushed out also when the workflow of the host was terminated meanwhile', async () => {
    await system.json(['mode', 'recording']);
    await acquire('train', 20_000, '--ttl', '120', '--priority', '60');
    await system.client.workflow.getHandle(workflowId.gpuHost(system.host)).terminate('by a test');
    // Its successor has looked at the host.
    await vi.waitFor(async () => expect((await system.hostState()).epochs).not.toEqual({}), 20_000);
    await system.json(['lease', 'release', 'train']);
    await system.until('the model is back', ({ vlm_state }) => vlm_state === 'loaded');
  });

  it('is the same over HTTP: held with a fencing token, seen as the lock, renewed, given back', async () => {
    const ask = async (method: string, path: string, body?: object, signal?: AbortSignal) => {
      const json = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
      const response = await fetch(`${gateway}${path}`, {
        method,
        ...(body ? json : {}),
        ...(signal ? { signal } : {}),
      });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    const whole = await ask('POST', '/lease', { id: 'whole', holder: 'trainer', ttl_seconds: 120 });
    expect(whole).toMatchObject({ status: 200, body: { state: 'held', mb: null } });
    const [token] = Object.values(whole.body['fencing_tokens'] as Record<string, number>);
    expect(token).toBeGreaterThan(0);
    const expiresAt = whole.body['expires_at'];
    expect((await ask('GET', '/status')).body).toMatchObject({
      lock: { holder: 'trainer', kind: 'lease', id: 'whole', expires_at: expiresAt },
      leases: [{ id: 'whole', mb: null }],
    });

    expect(await ask('POST', '/lease', { id: 'next', mb: 1_000, wait: false })).toMatchObject({
      status: 202,
      body: { state: 'queued' },
    });
    // Who leaves while it waits takes its request back.
    const caller = new AbortController();
    const left = ask('POST', '/lease', { id: 'left', mb: 1_000 }, caller.signal);
    left.catch(() => undefined);
    await vi.waitFor(async () => expect(await states()).toHaveProperty('left'), 10_000);
    caller.abort(new Error('not wanted any more'));
    await expect(left).rejects.toThrow('not wanted any more');
    await isOver('left');

    const renewed = await ask('POST', '/lease/whole/renew', { ttl_seconds: 600 });
    expect(renewed).toMatchObject({ status: 200, body: { ttl_seconds: 600 } });
    expect(Date.parse(String(renewed.body['expires_at']))).toBeGreaterThan(Date.parse(String(expiresAt)));
    expect((await ask('GET', '/leases')).body).toMatchObject({ leases: expect.arrayContaining([renewed.body]) });
    expect(await ask('DELETE', '/lease/whole')).toMatchObject({ status: 200, body: { id: 'whole', released: true } });
    await vi.waitFor(async () => expect(await states()).toEqual({ next: 'held' }), 15_000);
    // A later holder of the GPU has a higher token; and a part of it is no lock.
    const { body: next } = await ask('GET', '/lease/next');
    expect(Object.values(next['fencing_tokens'] as Record<string, number>)[0]).toBeGreaterThan(token ?? 0);
    // While an operation has its turn, the lock is that one's.
    await vi.waitFor(
      async () =>
        expect((await ask('GET', '/status')).body).toMatchObject({ lock: { holder: null }, leases: [{ id: 'next' }] }),
      10_000,
    );
    await ask('DELETE', '/lease/next');
    await isOver('next');
    expect(await ask('DELETE', '/lease/next')).toMatchObject({
      status: 404,
      body: { error: { code: 'no-such-lease' } },
    });
    expect(await ask('POST', '/lease', { id: 'huge', mb: 90_000 })).toMatchObject({
      status: 409,
      body: { error: { message: expect.stringMatching(/needs 90,000 MB/) }, lease: { state: 'ended' } },
    });
  });

  it('that can never be had is refused at once, and blocks nobody (pain 2)', async () => {
    const { code, stdout } = await system.cli('lease', 'acquire', '--id', 'huge', '--mb', '90000', '-o', 'json');
    expect(code).toBe(3);
    expect((JSON.parse(stdout) as LeaseState).reason).toMatch(/reservation\/huge needs 90,000 MB/);
    expect(await system.cli('lease', 'acquire', '--mb', 'many')).toMatchObject({ code: 2 });
  });
});
