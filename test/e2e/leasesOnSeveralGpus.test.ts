/** P7 on a host with five GPUs: a lease is a claim, not a turn, and several GPUs are had whole or not at all. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { expectNoViolation, type Printed } from '../system/judge.js';
import { livingServices, serviceStates, servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const FIGURES = { tts: { vramMb: 4_096, priority: 50 }, render: { vramMb: 20_480, priority: 40 } };

describe('leases on five GPUs', { timeout: 120_000 }, () => {
  let system: System;
  /** Four of 24 GB, and one of 12 GB. */
  let large: string[];
  let small: string;
  beforeAll(async () => {
    const services = await servicesOf(FIGURES, { health: { interval_seconds: 0.3, failures: 2 } });
    system = await startSystem({
      preset: 'five-gpus',
      speed: 2,
      config: { vram_poll_ms: 100, reconcile_seconds: 5, idle_timeout_seconds: 'never', services },
    });
    const cards = system.simulator.gpuHost.cards.map(({ spec }) => spec);
    large = cards.filter(({ totalMb }) => totalMb > 20_000).map(({ uuid }) => uuid);
    small = cards.find(({ totalMb }) => totalMb < 20_000)?.uuid ?? '';
  });
  afterEach(() => expectNoViolation(system));
  afterAll(() => stopWithServices(system));

  const acquire = (id: string, ...more: string[]) =>
    system.json<LeaseState>(['lease', 'acquire', '--id', id, '--ttl', '600', ...more]);
  const states = async () => {
    const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
    return Object.fromEntries(leases.map(({ id, state, position }) => [id, position === null ? state : position]));
  };
  const release = async (id: string) => {
    await system.json(['lease', 'release', id]);
    await vi.waitFor(async () => expect(await states()).not.toHaveProperty(id), 15_000);
  };
  const sorted = (names: string[] = []) => [...names].sort((a, b) => a.localeCompare(b));

  it('one goes on while a service on another GPU dies and comes back, and only what needs the GPU is refused', async () => {
    const [mine = '', ...others] = large;
    // The other large ones are a stranger's.
    const { gpuHost } = system.simulator;
    const strangers = others.map((uuid) => {
      const process = gpuHost.startProcess('compute', '/usr/bin/game');
      gpuHost.resize(process, uuid, 15_000);
      return process;
    });
    const isSeen = (mb: number) =>
      system.until('the strangers are seen', ({ gpus }) =>
        gpus.every(({ id, foreignMb }) => !others.includes(id) || (foreignMb ?? 0) > 10_000 === mb > 10_000),
      );
    await isSeen(15_000);
    const lease = await acquire('k3j9', '--gpu', mine, '--holder', 'training on desk 3');
    expect(lease).toMatchObject({ state: 'held', mb: null, gpus: [mine] });
    // Fencing tokens are by GPU: those of its own and no other.
    expect(Object.keys(lease.epochs)).toEqual([mine]);

    const started = await system.json<Printed>(['service', 'start', 'tts']);
    expect(started.outcome.residency?.['service/tts']).not.toEqual([mine]);
    const [{ pid } = { pid: 0 }] = livingServices(system, 'tts');
    process.kill(pid, 'SIGKILL');
    await system.until(
      'it is back',
      ({ tenants }) =>
        livingServices(system, 'tts').some((one) => one.pid !== pid) &&
        tenants.some(({ id, state }) => id === 'service/tts' && state === 'resident'),
      30_000,
    );
    expect(await states()).toEqual({ k3j9: 'held' });

    const { outcome } = await system.json<Printed>(['service', 'start', 'render'], 3);
    expect(outcome.refusal).toMatchObject({
      code: 'holder-outranks',
      message: expect.stringMatching(/reservation\/k3j9 \(training on desk 3\) holds [\d,]+ MB on/),
      remedy: expect.stringContaining('`vramflow lease release k3j9`'),
    });
    expect((await system.cli('status')).stdout).toMatch(/reservation\/k3j9 \(training on desk 3\) +resident/);
    await release('k3j9');
    expect((await system.json<Printed>(['service', 'start', 'render'])).outcome.residency?.['service/render']).toEqual([
      mine,
    ]);
    expect(await serviceStates(system)).toMatchObject({ tts: 'ready', render: 'ready' });
    await system.json(['service', 'stop', 'render']);
    await system.json(['service', 'stop', 'tts']);
    for (const process of strangers) void gpuHost.end(process);
    await isSeen(0);
  });

  it('several GPUs are granted whole or not at all; a later holder has higher tokens on each', async () => {
    const first = await acquire('first', '--gpus', '3');
    expect(first.state).toBe('held');
    expect(first.gpus).toHaveLength(3);
    expect(first.gpus.every((gpu) => large.includes(gpu))).toBe(true);
    expect(sorted(Object.keys(first.epochs))).toEqual(sorted(first.gpus));

    // One large GPU is left: the second wants three, waits for them, and holds nothing meanwhile.
    await acquire('second', '--gpus', '3', '--no-wait');
    await vi.waitFor(async () => {
      const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
      expect(leases.find(({ id }) => id === 'second')).toMatchObject({
        position: 1,
        gpus: [],
        reason: expect.any(String),
      });
    }, 15_000);
    const last = large.find((gpu) => !first.gpus.includes(gpu)) ?? '';
    expect(await acquire('last', '--mb', '20000', '--gpu', last)).toMatchObject({ state: 'held', gpus: [last] });
    await release('last');

    await system.json(['lease', 'release', 'first']);
    await vi.waitFor(async () => expect(await states()).toEqual({ second: 'held' }), 15_000);
    const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
    const second = leases[0];
    expect(second?.gpus).toHaveLength(3);
    for (const gpu of second?.gpus ?? []) expect(second?.epochs[gpu]).toBeGreaterThan(first.epochs[gpu] ?? 0);
    await release('second');
  });

  it('a part of each of two named GPUs leaves the rest of them to others', async () => {
    const [a = '', b = ''] = large;
    const both = await acquire('both', '--mb', '10000', '--gpu', a, '--gpu', b);
    expect(sorted(both.gpus)).toEqual(sorted([a, b]));
    expect(await acquire('beside', '--mb', '10000', '--gpu', a)).toMatchObject({ state: 'held', gpus: [a] });
    const full = await system.cli('lease', 'run', '--mb', '10000', '--gpu', a, '--no-wait', '--', 'true');
    expect(full).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/needs 10,000 MB, and .* has [\d,]+ MB left/),
    });
    await release('beside');
    await release('both');
  });

  it('GPUs that are not there, or not as many, are refused at once', async () => {
    const refusal = async (...more: string[]) => (await system.cli('lease', 'acquire', '-o', 'json', ...more)).stdout;
    expect(await refusal('--gpus', '9')).toMatch(/needs 9 whole GPUs, and this host has 5/);
    expect(await refusal('--gpu', 'GPU-none')).toMatch(/this host has no GPU-none: it has GPU-/);
    expect(await system.cli('lease', 'acquire', '--gpus', '2', '--gpu', small)).toMatchObject({ code: 2 });
  });
});
