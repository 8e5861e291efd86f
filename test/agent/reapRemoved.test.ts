/** Services that were taken out of the configuration while they ran, with real processes and a simulated dockerd. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDockerDriver } from '../../src/adapters/docker/driver.js';
import { createNativeDriver } from '../../src/adapters/native/driver.js';
import { reapRemovedServices } from '../../src/adapters/native/reap.js';
import { Journal } from '../../src/agent/journal.js';
import type { Config } from '../../src/config/schema.js';
import { reapRemoved } from '../../src/roles/reapRemoved.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { driverOf, IDLE, script } from '../adapters/native/service.js';
import { lives, tempFolder, tidyLater } from '../adapters/processes/owned.js';

const soon = () => AbortSignal.timeout(30_000);
const GRACE_MS = 5_000;

describe.runIf(process.platform === 'linux')('a native service that was taken out of the configuration', () => {
  const reap = (stateDir: string, configured: string[]) =>
    reapRemovedServices({ stateDir, configured, graceMs: GRACE_MS, signal: soon(), owning: { ok: true } });

  it('is found by its record and marker, and ended; once', async () => {
    const former = await driverOf(script(IDLE));
    const { pids } = await former.start();
    await former.driver.close();
    expect(await reap(former.stateDir, [])).toEqual([{ service: 'one', pids, result: 'stopped' }]);
    expect(await lives(pids[0] ?? 0)).toBe(false);
    expect(await former.store.list()).toEqual([]);
    expect(await reap(former.stateDir, [])).toEqual([]);
  });

  it('is left alone while the configuration has it', async () => {
    const former = await driverOf(script(IDLE));
    const { pids } = await former.start();
    expect(await reap(former.stateDir, ['one'])).toEqual([]);
    expect(await lives(pids[0] ?? 0)).toBe(true);
  });

  it('is never a stranger: one whose marker is not the record’s is not signalled', async () => {
    const other = await driverOf(script(IDLE, { name: 'other' }));
    const { pids } = await other.start();
    const [record] = await other.store.list();
    if (record === undefined) throw new Error('no record');
    // A forged record: pid and start time are right, the marker is another.
    const forged = await driverOf(script(IDLE));
    await forged.store.write({ ...record, marker: 'forged', cgroup: null });
    expect(await reap(forged.stateDir, [])).toMatchObject([{ service: 'one', result: 'stuck' }]);
    expect(await lives(pids[0] ?? 0)).toBe(true);
  });

  it('nothing was ever started: there is nothing to find', async () => {
    expect(await reap(join(await tempFolder(), 'services'), [])).toEqual([]);
  });
});

describe('a removed service', { timeout: 30_000 }, () => {
  let folder: string;
  let simulator: RunningSimulator;
  let journal: Journal;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vf-'));
    const like = { image: 'tts:1', vramMb: 4_000, bootMs: 500, stopMs: 200, health: null };
    await writeFile(
      join(folder, 'services.json'),
      JSON.stringify({
        containers: [
          { ...like, name: 'tts' },
          { ...like, name: 'of-others' },
        ],
      }),
    );
    simulator = await startSimulator({ preset: 'rtx4090', speed: 10, servicesFile: join(folder, 'services.json') });
    journal = new Journal(folder);
  });
  afterEach(async () => {
    journal.close();
    await simulator.stop();
    await rm(folder, { recursive: true });
  });

  const hostWith = (services: Record<string, object>) => ({
    config: { host: 'me', docker: { socket: simulator.info.docker }, services } as unknown as Config,
    folder,
    journal,
    log: pino({ level: 'silent' }),
    signal: soon(),
  });
  const dockerDriver = (owner: string, names: string[]) => {
    const driver = createDockerDriver({
      daemon: { socketPath: simulator.info.docker },
      services: names.map((name) => ({ name, image: 'tts:1' })),
      owner,
    });
    tidyLater(() => driver.close());
    return driver;
  };
  const holders = () =>
    simulator.gpuHost.processes.filter(({ kind, ended }) => kind === 'container' && !ended).map(({ name }) => name);

  it('in a container is found by its labels, stopped and told of; what others made, and another agent’s, go on', async () => {
    const mine = dockerDriver('me', ['gone', 'stays']);
    const existing = createDockerDriver({
      daemon: { socketPath: simulator.info.docker },
      services: [{ name: 'of-others', container: 'of-others' }],
      owner: 'me',
    });
    tidyLater(() => existing.close());
    const theirs = dockerDriver('another', ['theirs']);
    const options = { gpus: [], signal: soon() };
    for (const name of ['gone', 'stays']) await mine.start(name, options);
    await existing.start('of-others', options);
    await theirs.start('theirs', options);
    expect(holders()).toHaveLength(4);
    await reapRemoved(hostWith({ stays: { image: 'tts:1' } }));
    await vi.waitFor(() => expect(holders()).toHaveLength(3));
    await mine.look(soon());
    expect(mine.sights().map(({ state }) => state)).toEqual(['absent', 'running']);
    expect(journal.read()).toMatchObject([
      {
        type: 'service_stopped',
        subject: 'service/gone',
        message: 'gone ran, and is no longer in the configuration: it was stopped',
      },
    ]);
  });

  it.runIf(process.platform === 'linux')('that runs natively is told of too', async () => {
    vi.stubEnv('VRAMFLOW_IN_CONTAINER', '0');
    tidyLater(() => void vi.unstubAllEnvs());
    const stateDir = join(folder, 'services');
    const native = createNativeDriver({ services: [script(IDLE)], stateDir, owning: { ok: true } });
    const { pids } = await native.start('one', { gpus: [], signal: soon() });
    await native.close();
    // Docker is away; nothing of the configuration needs it, so nobody waits for it.
    simulator.faults.set('docker-unavailable');
    await reapRemoved(hostWith({}));
    expect(await lives(pids[0] ?? 0)).toBe(false);
    expect(journal.read()).toMatchObject([{ type: 'service_stopped', subject: 'service/one', details: { pids } }]);
  });

  it('in a container is found also when Docker comes back later', async () => {
    const mine = dockerDriver('me', ['gone']);
    await mine.start('gone', { gpus: [], signal: soon() });
    simulator.faults.set('docker-unavailable');
    await reapRemoved(hostWith({ stays: { image: 'tts:1' } }));
    expect(journal.read()).toEqual([]);
    simulator.faults.clear('docker-unavailable');
    await vi.waitFor(() => expect(journal.read()).toMatchObject([{ subject: 'service/gone' }]), 15_000);
    expect(holders()).toEqual([]);
  });
});
