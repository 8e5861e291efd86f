/** What only a simulated daemon can be made to do. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDockerDriver } from '../../../src/adapters/docker/driver.js';
import type { ServiceChange, ServiceDriver } from '../../../src/adapters/services/driver.js';
import { type RunningSimulator, startSimulator } from '../../../src/simulator/simulator.js';

const TTS = { name: 'tts', image: 'tts:1', vramMb: 4_000, bootMs: 2_000, stopMs: 200, health: null };
const soon = () => AbortSignal.timeout(30_000);

let folder: string;
let simulator: RunningSimulator;
let driver: ServiceDriver;
let changes: ServiceChange[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vf-'));
  await writeFile(join(folder, 'services.json'), JSON.stringify({ containers: [TTS] }));
  simulator = await simulate();
  changes = [];
  driver = createDockerDriver({
    daemon: { socketPath: simulator.info.docker },
    services: [
      { name: 'tts', container: 'tts' },
      { name: 'made', image: 'tts:1' },
    ],
    owner: 'me',
  });
  driver.onChange((change) => changes.push(change));
  await driver.look(soon());
});

afterEach(async () => {
  await driver.close();
  await simulator.stop();
  await rm(folder, { recursive: true });
});

const simulate = () =>
  startSimulator({
    preset: 'rtx4090',
    speed: 10,
    stateFile: join(folder, 'state.json'),
    servicesFile: join(folder, 'services.json'),
  });

const up = (service: string, gpus: string[] = []) => driver.start(service, { gpus, signal: soon() });
const holders = () => simulator.gpuHost.processes.filter(({ kind, ended }) => kind === 'container' && !ended);

describe('the driver on a simulated daemon', () => {
  it('says that what does not die is stuck, and finds it gone once it is', { timeout: 40_000 }, async () => {
    await up('tts');
    simulator.faults.set('container-stuck', { container: 'tts' });
    expect(await driver.stop('tts', { graceMs: 200, signal: soon() })).toBe('stuck');
    expect(driver.sights()[0]).toMatchObject({ state: 'running' });
    simulator.faults.clear('container-stuck');
    await vi.waitFor(() => expect(driver.sights()[0]).toMatchObject({ state: 'absent' }));
    // Nobody stopped it at that moment, so it is news.
    expect(changes.map(({ kind }) => kind)).toEqual(['ended']);
    expect(await driver.stop('tts', { graceMs: 200, signal: soon() })).toBe('stopped');
  });

  it('ends what was to be stopped also when the time for it was over before Docker heard of it', async () => {
    await up('tts');
    const signal = AbortSignal.abort(new DOMException('over', 'TimeoutError'));
    await expect(driver.stop('tts', { graceMs: 5_000, signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    await vi.waitFor(() => expect(driver.sights()[0]).toMatchObject({ state: 'absent' }));
  });

  it('leaves a stop whose caller gives up', async () => {
    await up('tts');
    simulator.faults.set('container-deaf', { container: 'tts' });
    const caller = new AbortController();
    const asked = new Promise<void>((resolve) => {
      const unwatch = simulator.containers.watch(({ Action }) => {
        if (Action !== 'kill') return;
        unwatch();
        resolve();
      });
    });
    const stopping = driver.stop('tts', { graceMs: 20_000, signal: caller.signal });
    await asked;
    caller.abort(new Error('not wanted any more'));
    await expect(stopping).rejects.toThrow('not wanted any more');
  });

  it('says why a container does not start, and that a GPU is not there', async () => {
    simulator.faults.set('container-fail', { count: 1 });
    await expect(up('tts')).rejects.toMatchObject({ kind: 'failed', message: expect.stringContaining('cannot start') });
    await expect(up('made', ['GPU-of-another-machine'])).rejects.toMatchObject({
      kind: 'missing',
      remedy: expect.stringContaining('Container Toolkit'),
    });
    expect(holders()).toEqual([]);
    expect(driver.sights()[1]?.lastExit?.reason).toContain('it could not be started');
  });

  it('hears of a crash', async () => {
    await up('tts');
    simulator.faults.set('container-crash', { container: 'tts', ms: 500, count: 1 });
    await vi.waitFor(() =>
      expect(changes).toEqual([
        {
          kind: 'ended',
          service: 'tts',
          exit: { code: null, signal: 'SIGSEGV', reason: 'ended by SIGSEGV' },
        },
      ]),
    );
  });

  it('says which GPUs a container that others made was given, whether it runs or not', async () => {
    const uuid = simulator.gpuHost.card(0).spec.uuid;
    const others = new Docker({ socketPath: simulator.info.docker });
    const DeviceRequests = [{ Driver: 'nvidia', DeviceIDs: [uuid], Capabilities: [['gpu']] }];
    await others.createContainer({ name: 'bound', Image: 'tts:1', HostConfig: { DeviceRequests } });
    const services = ['bound', 'tts'].map((name) => ({ name, container: name }));
    const looking = createDockerDriver({ daemon: { socketPath: simulator.info.docker }, services, owner: 'me' });
    await looking.look(soon());
    expect(looking.sights()).toMatchObject([
      { state: 'absent', given: [uuid] },
      { state: 'absent', given: 'all' },
    ]);
    // A plan for another card does not reach it: it runs on its own.
    const sight = await looking.start('bound', { gpus: ['GPU-planned'], signal: soon() });
    expect(sight).toMatchObject({ state: 'running', given: [uuid] });
    expect(sight).not.toHaveProperty('gpus');
    await looking.stop('bound', { graceMs: 0, signal: soon() });
    await looking.close();
  });

  it('gives the process by which the card is held', async () => {
    const { pids } = await up('made', [simulator.gpuHost.card(0).spec.uuid]);
    const holder = await simulator.recorder.waitFor(
      (entry) => entry.kind === 'allocated' && entry.holderKind === 'container',
    );
    expect(holder).toMatchObject({ holder: `container-${pids[0]}`, name: 'vramflow-made' });
  });

  it('finds the same runs again when the simulator was killed and started anew', { timeout: 20_000 }, async () => {
    const runs = [(await up('tts')).run, (await up('made')).run];
    await vi.waitFor(() => expect(simulator.containers.all.every(({ state }) => state.isUp)).toBe(true));
    await simulator.stop();
    await vi.waitFor(() => expect(driver.problem()).not.toBeNull());
    simulator = await simulate();
    await vi.waitFor(() => expect(driver.problem()).toBeNull(), { timeout: 10_000 });
    await driver.look(soon());
    expect(driver.sights().map(({ run }) => run)).toEqual(runs);
    expect(changes.map(({ kind }) => kind)).toEqual(['driver-away', 'driver-back']);
  });
});
