/** P3, P5, P6, P8, P11, P13 on the simulated host at speed 1: real processes that hold simulated VRAM. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { SERVICE_STATES } from '../../src/contracts/status.js';
import { freePort } from '../parts/ports.js';
import { expectNoViolation, type Printed, stranger } from '../system/judge.js';
import { type System, startSystem } from '../system/system.js';

describe('a media pipeline whose services declare 46 GB on a 24 GB card', { timeout: 90_000 }, () => {
  let system: System;
  let gateway: string;
  beforeAll(async () => {
    const [comfyui, cosyvoice, vidi, server, http] = await Promise.all(Array.from({ length: 5 }, () => freePort()));
    gateway = `http://127.0.0.1:${http}`;
    const page = (port: number | undefined, path: string) => ({ http: `http://127.0.0.1:${port}${path}` });
    system = await startSystem({
      env: { VRAMFLOW_TEMPORAL_UI_URL: 'http://127.0.0.1:1' },
      config: {
        services: {
          comfyui: {
            run: ['comfyui'],
            ports: [comfyui],
            vram_mb: 20_480,
            priority: 100,
            health: page(comfyui, '/stats'),
          },
          cosyvoice: {
            run: ['cosyvoice'],
            ports: [cosyvoice],
            vram_mb: 4_096,
            priority: 50,
            health: page(cosyvoice, '/docs'),
          },
          vidi: { run: ['vidi'], ports: [vidi], vram_mb: 4_096, priority: 40, health: page(vidi, '/health') },
          server: { run: ['server'], ports: [server], vram_mb: 18_432, priority: 10, health: page(server, '/tags') },
        },
        phases: { '2': ['vidi'], '3': ['cosyvoice'], '4': ['comfyui'], none: [] },
        gateway: { listen: `127.0.0.1:${http}`, open_routes: ['/gpu/*'] },
      },
    });
  });
  afterEach(() => {
    system.simulator.faults.clear();
    expectNoViolation(system);
  });
  afterAll(async () => {
    await system.json(['phase', 'prepare', 'none']);
    await system.stop();
  });

  const prepare = (phase: string) => system.json<Printed>(['phase', 'prepare', phase]);
  const states = async (): Promise<Record<string, string>> => {
    const { tenants } = await system.status();
    const services = tenants.filter(({ kind }) => kind === 'service');
    return Object.fromEntries(services.map(({ id, state }) => [id.slice('service/'.length), SERVICE_STATES[state]]));
  };
  const did = ({ steps }: OperationOutcome) => steps.map(({ kind, tenant }) => `${kind} ${tenant}`);

  it('P13: phase 2 starts vidi; 3 stops it, then starts cosyvoice; 4 stops that, then starts comfyui', async () => {
    expect(did((await prepare('2')).outcome)).toEqual(['load service/vidi']);
    expect(did((await prepare('3')).outcome)).toEqual(['unload service/vidi', 'load service/cosyvoice']);
    const { outcome } = await prepare('4');
    expect(did(outcome)).toEqual(['unload service/cosyvoice', 'load service/comfyui']);
    // P6: the proof between stop and start.
    expect(outcome.steps[0]?.proof.by).toMatch(/used memory dropped by 4096 MB/);
    expect(await states()).toEqual({ comfyui: 'ready', cosyvoice: 'stopped', vidi: 'stopped', server: 'stopped' });
    expect(await system.json(['phase', 'status'])).toMatchObject({ phase: '4', degraded: false });
    // The same phase again: nothing to do.
    expect((await prepare('4')).outcome.steps).toEqual([]);
  });

  it('P13: with cosyvoice running, a start of comfyui by hand stops it, waits for the memory, and starts', async () => {
    await prepare('3');
    const { outcome } = await system.json<Printed>(['service', 'start', 'comfyui']);
    expect(did(outcome)).toEqual(['unload service/cosyvoice', 'load service/comfyui']);
    expect((await states())['comfyui']).toBe('ready');
  });

  it('P5: a lower priority cannot stop a higher one, and is told who holds the memory', async () => {
    await prepare('4');
    const { outcome } = await system.json<Printed>(['service', 'start', 'vidi'], 3);
    expect(outcome.refusal).toMatchObject({
      code: 'holder-outranks',
      message: expect.stringMatching(/service\/comfyui holds 20,480 MB .* its priority 100 is above 40/),
      remedy: expect.stringContaining('vramflow service stop comfyui'),
    });
    expect((await states())['comfyui']).toBe('ready');
    // As many as needed and no more: vidi and cosyvoice fit side by side.
    await prepare('2');
    expect(did((await system.json<Printed>(['service', 'start', 'cosyvoice'])).outcome)).toEqual([
      'load service/cosyvoice',
    ]);
    expect(await states()).toMatchObject({ vidi: 'ready', cosyvoice: 'ready' });
  });

  it('P3: a phase stops what it does not list, even what would fit; an empty one frees everything', async () => {
    await prepare('2');
    await system.json(['service', 'start', 'cosyvoice']);
    expect(did((await prepare('2')).outcome)).toEqual(['unload service/cosyvoice']);
    await prepare('none');
    expect(Object.values(await states())).toEqual(['stopped', 'stopped', 'stopped', 'stopped']);
    const unknown = await system.cli('phase', 'prepare', 'nome');
    expect(unknown).toMatchObject({ code: 2, stderr: expect.stringContaining('none') });
    expect((await system.cli('service', 'start', 'comfiui')).stderr).toContain('comfyui');
  });

  it('P8: a service that dies while it is wanted is started again; one that was stopped stays away', async () => {
    await prepare('3');
    const { processes } = await system.status();
    const pid = processes?.find(({ owner }) => owner === 'service/cosyvoice')?.pid;
    expect(pid).toBeDefined();
    process.kill(pid ?? 0, 'SIGKILL');
    await system.until('it is noticed', ({ tenants }) =>
      tenants.some(({ id, state }) => id === 'service/cosyvoice' && state !== 'resident'),
    );
    await system.until(
      'it is ready again',
      ({ tenants }) => tenants.some(({ id, state }) => id === 'service/cosyvoice' && state === 'resident'),
      30_000,
    );
    expect((await system.journal('service_failed')).at(-1)?.message).toMatch(/cosyvoice died: .*SIGKILL/);
    await system.json(['service', 'stop', 'cosyvoice']);
    // The host publishes what is wanted once it has heard of the end.
    const wanted = async () => (await system.hostState()).intents.wanted;
    await expect.poll(wanted, { timeout: 5_000 }).not.toContain('service/cosyvoice');
  });

  it('a service that does not become ready is stopped, and the former residency is put back', async () => {
    await prepare('3');
    system.simulator.faults.set('service-fail', { service: 'comfyui' });
    const { outcome } = await system.json<Printed>(['phase', 'prepare', '4'], 5);
    expect(outcome.failure).toMatchObject({ type: 'ServiceFailed', message: expect.stringMatching(/last lines/) });
    expect(outcome.compensation).toMatch(/put back: load service\/cosyvoice/);
    expect(await states()).toMatchObject({ comfyui: 'failed', cosyvoice: 'ready' });
    expect(await system.json(['phase', 'status'])).toMatchObject({ phase: '3', degraded: false });
  });

  it('P4: what a stranger takes counts, and nobody touches the stranger', async () => {
    await prepare('none');
    const game = stranger(system, 6_000);
    await system.until('it is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > 6_000);
    const { outcome } = await system.json<Printed>(['service', 'start', 'comfyui'], 3);
    expect(outcome.refusal?.code).toBe('not-enough-vram');
    expect(game.alive()).toBe(true);
    game.end();
    await system.until('it has gone', ({ gpus }) => (gpus[0]?.foreignMb ?? Number.POSITIVE_INFINITY) < 2_000);
  });

  it('P11: status, phases and services over HTTP, without a token where the configuration says so', async () => {
    const post = async (path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(`${gateway}${path}`, { method: 'POST', headers });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    expect(await post('/gpu/prepare-phase/2')).toMatchObject({ status: 200, body: { status: 'done' } });
    const began = performance.now();
    const status = (await (await fetch(`${gateway}/gpu/status`)).json()) as Record<string, unknown>;
    expect(performance.now() - began).toBeLessThan(100);
    expect(status).toMatchObject({
      vram: { total_mb: 24_564, used_mb: expect.any(Number), free_mb: expect.any(Number) },
      services: { vidi: { state: 'ready' }, comfyui: { state: 'stopped' } },
      lock: { holder: null },
    });
    expect(await post('/gpu/service/vidi/stop')).toMatchObject({ status: 200 });
    expect(await post('/gpu/service/nobody/start')).toMatchObject({
      status: 404,
      body: { error: { code: 'UnknownTenant' } },
    });
    expect(await post('/gpu/prepare-phase/9')).toMatchObject({
      status: 404,
      body: { error: { code: 'UnknownPhase' } },
    });
    const started = await post('/gpu/service/vidi/start', { prefer: 'respond-async' });
    expect(started).toMatchObject({
      status: 202,
      body: { workflow_id: expect.stringContaining('service/'), web_ui: expect.stringMatching(/^http:.*\/service%2F/) },
    });
    expect(await fetch(`${gateway}/gpu/status`, { method: 'POST' })).toMatchObject({ status: 405 });
    await system.until('it is ready', ({ tenants }) =>
      tenants.some(({ id, state }) => id === 'service/vidi' && state === 'resident'),
    );
    // Host and Origin are checked all the same.
    expect(await post('/gpu/service/vidi/stop', { origin: 'http://evil.example' })).toMatchObject({ status: 403 });
    expect((await fetch(`${gateway}/v1/secret`)).status).toBe(401);
  });
});
