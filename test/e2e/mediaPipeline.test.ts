/**
 * P13, the whole pipeline of P12 at speed 1: cosyvoice and ollama are containers, of a simulated and of a real dockerd, comfyui
 * and vidi are native processes. The card is simulated; all hold its memory. Asked over plain HTTP, as its users do.
 */

import Docker from 'dockerode';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type TestContext, vi } from 'vitest';
import { holdersAt, type RecordEntry } from '../../src/simulator/record.js';
import { makeContainerOnSimulatedCard } from '../parts/containerOnSimulatedCard.js';
import { type RealDockerd, startRealDockerd } from '../parts/dockerd.js';
import { type Missing, requirePart } from '../parts/parts.js';
import { freePort } from '../parts/ports.js';
import { entriesOf, expectNoViolation, fromNow } from '../system/judge.js';
import { stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

/** P12: a service with a container is run by Docker, the others by vramflow. */
const INVENTORY = {
  comfyui: { run: ['python', 'main.py', '--listen'], vram_mb: 20_480, priority: 100, page: '/system_stats' },
  cosyvoice: { container: 'mcn_cosyvoice', vram_mb: 4_096, priority: 50, page: '/docs' },
  vidi: { run: ['vidi_server'], vram_mb: 4_096, priority: 40, page: '/health' },
  ollama: { container: 'mcn_ollama', vram_mb: 18_432, priority: 10, page: '/api/tags' },
};
type Name = keyof typeof INVENTORY;
const NAMES = Object.keys(INVENTORY) as Name[];
const CONTAINERS = ['cosyvoice', 'ollama'] as const;

/** What the card knows it by. */
function holderOf(name: Name): string {
  const service = INVENTORY[name];
  return 'container' in service ? service.container : name;
}

const startsOf = (record: readonly RecordEntry[], name: Name): RecordEntry[] =>
  record.filter((entry) => entry.kind === 'process-start' && entry.name === holderOf(name));

interface GpuStatus {
  vram: { total_mb: number; used_mb: number; free_mb: number } | null;
  services: Record<string, { state: string; vram_mb: number }>;
  lock: { holder: string | null };
}

describe.each(['simulated', 'real'] as const)('the media pipeline on a %s dockerd', { timeout: 120_000 }, (kind) => {
  let found: RealDockerd | Missing | null = null;
  let system: System;
  let gateway: string;
  let docker: Docker;

  beforeAll(async () => {
    found = kind === 'real' ? requirePart('Docker', await startRealDockerd()) : null;
    if (found !== null && 'skip' in found) return;
    const daemon = found;
    gateway = `http://127.0.0.1:${await freePort()}`;
    const pages = new Map<Name, URL>();
    for (const name of NAMES) {
      pages.set(name, new URL(`http://127.0.0.1:${await freePort()}${INVENTORY[name].page}`));
    }
    system = await startSystem({
      config: {
        services: Object.fromEntries(
          NAMES.map((name) => {
            const { page: _path, ...service } = INVENTORY[name];
            return [name, { ...service, health: { http: String(pages.get(name)) } }];
          }),
        ),
        phases: { '2': ['vidi'], '3': ['cosyvoice'], '4': ['comfyui'] },
        gateway: { listen: new URL(gateway).host, open_routes: ['/gpu/*'] },
      },
      ...(daemon === null
        ? {}
        : {
            async realContainers({ info }) {
              for (const name of CONTAINERS) {
                const health = pages.get(name) as URL;
                const container = { name: holderOf(name), simulator: info.admin, health };
                await makeContainerOnSimulatedCard(daemon.docker, container);
              }
              return daemon.socketPath;
            },
          }),
    });
    docker = daemon?.docker ?? new Docker({ socketPath: system.simulator.info.docker });
  });

  beforeEach((context: TestContext) => {
    if (found !== null && 'skip' in found) context.skip(found.skip);
  });

  afterEach(() => {
    if (found !== null && 'skip' in found) return;
    system.simulator.faults.clear();
    expectNoViolation(system);
  });

  afterAll(async () => {
    if (found !== null && 'skip' in found) return;
    if (system !== undefined) await stopWithServices(system);
    await found?.stop();
  });

  async function post(path: string) {
    const response = await fetch(`${gateway}${path}`, { method: 'POST' });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }
  const status = async () => (await (await fetch(`${gateway}/gpu/status`)).json()) as GpuStatus;
  const docked = (name: (typeof CONTAINERS)[number]) => docker.getContainer(holderOf(name)).inspect();

  /** In the word of the status (P11), of Docker, and of the card: this service runs, with its memory, and no other does. */
  async function expectOnly(name: Name): Promise<void> {
    const { vram_mb } = INVENTORY[name];
    const card = system.simulator.gpuHost.card(0);
    await vi.waitFor(async () => {
      const { vram, services, lock } = await status();
      expect(Object.fromEntries(Object.entries(services).map(([id, { state }]) => [id, state]))).toEqual(
        Object.fromEntries(NAMES.map((id) => [id, id === name ? 'ready' : 'stopped'])),
      );
      expect(services[name]?.vram_mb).toBe(vram_mb);
      expect(lock.holder).toBeNull();
      expect(vram?.total_mb).toBe(card.spec.totalMb);
      expect(vram?.free_mb).toBe(system.simulator.gpuHost.freeMb(card));
      expect((vram?.used_mb ?? 0) + (vram?.free_mb ?? 0)).toBe(card.spec.totalMb);
    });
    for (const other of CONTAINERS) expect((await docked(other)).State.Running, other).toBe(other === name);
    const held = holdersAt(system.simulator.record(), Number.POSITIVE_INFINITY);
    const ours = held.filter(({ holderKind }) => holderKind === 'service' || holderKind === 'container');
    expect(ours.map((holding) => [holding.name, holding.mb])).toEqual([[holderOf(name), vram_mb]]);
  }

  /** P6: when the next one began, the memory of the former was back, all of it. */
  function expectHandover(record: readonly RecordEntry[], from: Name, to: Name): void {
    const begun = startsOf(record, to);
    expect(begun).toHaveLength(1);
    const back = entriesOf(record, 'reclaimed', { name: holderOf(from) });
    expect(back.map(({ mb }) => mb)).toEqual([INVENTORY[from].vram_mb]);
    const held = holdersAt(system.simulator.record(), begun[0]?.atMs ?? 0);
    expect(held.filter(({ name }) => name === holderOf(from))).toEqual([]);
  }

  it('P13: phase 2 starts vidi; 3 stops it, then starts cosyvoice; 4 stops that, then starts comfyui', async () => {
    expect(await post('/gpu/service/ollama/start')).toMatchObject({ status: 200 });
    await expectOnly('ollama');
    let former: Name = 'ollama';
    for (const [phase, name] of [
      ['2', 'vidi'],
      ['3', 'cosyvoice'],
      ['4', 'comfyui'],
    ] as const) {
      const since = fromNow(system);
      expect(await post(`/gpu/prepare-phase/${phase}`)).toMatchObject({ status: 200, body: { status: 'done' } });
      await expectOnly(name);
      expectHandover(since(), former, name);
      former = name;
    }
  });

  it('P13: with cosyvoice running, a start of comfyui by hand stops it, waits for its memory, and starts', async () => {
    expect(await post('/gpu/prepare-phase/3')).toMatchObject({ status: 200 });
    await expectOnly('cosyvoice');
    // Longer than a process takes to its first allocation.
    system.simulator.faults.set('reclaim-slow', { ms: 2_000 });
    const since = fromNow(system);
    expect(await post('/gpu/service/comfyui/start')).toMatchObject({ status: 200, body: { status: 'done' } });
    await expectOnly('comfyui');
    expectHandover(since(), 'cosyvoice', 'comfyui');
    // Docker saw its end before comfyui began.
    const [begun] = startsOf(since(), 'comfyui');
    expect(Date.parse((await docked('cosyvoice')).State.FinishedAt)).toBeLessThan(Date.parse(begun?.at ?? ''));
    // P5: and a container of lower priority does not stop it.
    expect(await post('/gpu/service/ollama/start')).toMatchObject({ status: 409, body: { status: 'refused' } });
    await expectOnly('comfyui');
  });

  it('law 6: kill -9 of the agent ends no container, and its successor neither starts it again nor loses it', async () => {
    expect(await post('/gpu/prepare-phase/3')).toMatchObject({ status: 200 });
    const before = await docked('cosyvoice');
    const since = fromNow(system);
    await system.agent?.kill();
    await system.startAgent();
    await expectOnly('cosyvoice');
    expect((await docked('cosyvoice')).State).toEqual(before.State);
    expect(NAMES.flatMap((name) => startsOf(since(), name))).toEqual([]);
    expect(await post('/gpu/service/cosyvoice/stop')).toMatchObject({ status: 200 });
    expect((await docked('cosyvoice')).State.Running).toBe(false);
  });
});
