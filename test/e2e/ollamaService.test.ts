/** P12: Ollama is a container of the same host. What runs in it ends with it; and the daemon may be away for a while. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../parts/ports.js';
import { expectNoViolation, loadedModels, type Printed } from '../system/judge.js';
import { serviceStates, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const VLM = 'qwen3-vl:8b';
const SERVER_MB = 18_432;
interface Finding {
  part: string;
  state: string;
  message: string;
}

describe('an Ollama in a container of its host', { timeout: 90_000 }, () => {
  let system: System;
  let gateway: string;
  beforeAll(async () => {
    const [server, comfyui] = await Promise.all([freePort(), freePort()]);
    const http = await freePort();
    gateway = `http://127.0.0.1:${http}`;
    const page = (port: number, path: string) => ({ http: `http://127.0.0.1:${port}${path}` });
    const services = {
      comfyui: { run: ['comfyui'], ports: [comfyui], vram_mb: 20_480, priority: 100, health: page(comfyui, '/stats') },
      ollama: {
        container: 'mcn_ollama',
        serves: 'ollama',
        vram_mb: SERVER_MB,
        priority: 10,
        health: page(server, '/api/tags'),
      },
    };
    system = await startSystem({
      speed: 2,
      config: {
        vram_poll_ms: 100,
        services,
        phases: { '4': ['comfyui'], none: [] },
        gateway: { listen: `127.0.0.1:${http}`, open_routes: ['/gpu/*'] },
      },
    });
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await system.json(['phase', 'prepare', 'none']);
    expectNoViolation(system);
  });
  afterAll(() => stopWithServices(system));

  const findings = (code: number) => system.json<Finding[]>(['doctor'], code);
  const gpuStatus = async () =>
    (await (await fetch(`${gateway}/gpu/status`)).json()) as { degraded: boolean; degraded_reason: string | null };

  it('stopped, it is no trouble; a model is loaded once it runs, counted once, and ends with it', async () => {
    const before = await system.status();
    expect(before).toMatchObject({ degraded_mode: false, degraded_reason: null, vlm_state: 'unloaded' });
    expect(before.drivers[0]?.reason).toBe('its service ollama is stopped');
    expect((await system.cli('status')).stdout).toContain('ollama: its service ollama is stopped');
    const refused = await system.cli('model', 'load', VLM);
    expect(refused.code).toBe(3);
    expect(refused.stdout + refused.stderr).toContain('vramflow service start ollama');
    expect((await findings(0)).every(({ state }) => state === 'ok')).toBe(true);

    await system.json(['service', 'start', 'ollama']);
    await system.json(['model', 'load', VLM]);
    const { gpus, tenants, vram, processes } = await system.until(
      'its runner is known',
      (status) => status.processes?.some(({ owner }) => owner === `model/${VLM}`) ?? false,
    );
    const heldBy = (id: string) => tenants.find((tenant) => tenant.id === id)?.holdings[0]?.mb;
    expect(heldBy('service/ollama')).toBe(heldBy(`model/${VLM}`));
    // Ollama's own figure is a little above what the runner takes.
    const foreignMb = gpus[0]?.foreignMb ?? Number.NaN;
    expect(foreignMb).toBeGreaterThan((before.gpus[0]?.foreignMb ?? Number.NaN) - 300);
    expect(vram?.used_mb).toBe(foreignMb + (heldBy('service/ollama') ?? Number.NaN));
    expect(processes?.some(({ owner }) => owner === 'foreign' || owner === 'ollama')).toBe(false);
    const left = (vram?.total_mb ?? 0) - foreignMb - SERVER_MB;
    expect(await system.json(['can-fit', String(left)])).toMatchObject({ fits: true });

    const { outcome } = await system.json<Printed>(['phase', 'prepare', '4']);
    expect(outcome.steps.map(({ kind, tenant }) => `${kind} ${tenant}`)).toEqual([
      'unload service/ollama',
      'load service/comfyui',
    ]);
    expect(loadedModels(system)).toEqual([]);
    expect(await serviceStates(system)).toEqual({ comfyui: 'ready', ollama: 'stopped' });
    expect(await system.status()).toMatchObject({ degraded_mode: false, vlm_state: 'unloaded' });
    await system.until('the host has heard it', (status) => status.turns.length === 0);
    const ended = await system.journal('tenant_left', 'tenant_died', 'driver_away');
    expect(ended.map(({ type, message }) => [type, message])).toEqual([
      ['tenant_left', `${VLM}: it ended with its service`],
    ]);
  });

  it('the daemon goes away: degraded, doctor says what to do, and all recovers by itself', async () => {
    system.simulator.faults.set('docker-unavailable');
    const away = /docker services cannot be managed: No Docker daemon listens at .*Start it/;
    await system.until('degraded', ({ degraded_reason }) => away.test(degraded_reason ?? ''));
    expect(await gpuStatus()).toMatchObject({ degraded: true, degraded_reason: expect.stringMatching(away) });
    expect((await findings(4)).find(({ part }) => part === 'docker')).toMatchObject({
      state: 'broken',
      message: expect.stringMatching(/No Docker daemon listens at .*Start it/),
    });
    system.simulator.faults.clear();
    await system.until('recovered by itself', (status) => !status.degraded_mode);
    expect(await gpuStatus()).toMatchObject({ degraded: false, degraded_reason: null });
    expect((await findings(0)).find(({ part }) => part === 'docker')).toMatchObject({ state: 'ok' });
    const told = await system.journal('driver_away', 'driver_back');
    expect(told.filter(({ subject }) => subject === 'docker').map(({ type }) => type)).toEqual([
      'driver_away',
      'driver_back',
    ]);
  });
});
