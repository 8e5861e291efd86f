/** What the simulated daemon does not play: Docker's own health checks, restarts, pauses and terminals. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDockerDriver } from '../../../src/adapters/docker/driver.js';
import type { ServiceChange, ServiceDriver } from '../../../src/adapters/services/driver.js';
import { IMAGE, type RealDockerd, startRealDockerd } from '../../parts/dockerd.js';
import { type Missing, requirePart } from '../../parts/parts.js';

const NAME = 'under-test';
const soon = () => AbortSignal.timeout(30_000);
const eventually = (check: () => void | Promise<void>) => vi.waitFor(check, { timeout: 15_000, interval: 30 });

describe('the driver on a real Docker', () => {
  let found: RealDockerd | Missing | undefined;
  let daemon: RealDockerd;
  let driver: ServiceDriver;
  let changes: ServiceChange[];

  beforeAll(async () => {
    found = requirePart('Docker', await startRealDockerd());
  });

  afterAll(async () => {
    if (found !== undefined && 'stop' in found) await found.stop();
  });

  beforeEach(async (context) => {
    if (found === undefined) throw new Error('It was not started.');
    if ('skip' in found) return context.skip(found.skip);
    daemon = found;
    changes = [];
    driver = createDockerDriver({
      daemon: { socketPath: daemon.socketPath },
      services: [{ name: 'tts', container: NAME }],
      owner: 'me',
    });
    driver.onChange((change) => changes.push(change));
  });

  afterEach(async () => {
    if (found === undefined || 'skip' in found) return;
    await driver.close();
    await daemon.docker.getContainer(NAME).remove({ force: true });
  });

  /** A container of others, which the driver then sees. */
  async function make(options: object, ...command: string[]): Promise<void> {
    await daemon.docker.createContainer({ name: NAME, Image: IMAGE, Cmd: command, ...options });
    await driver.look(soon());
  }

  const sight = () => driver.sights()[0];
  const up = () => driver.start('tts', { gpus: [], signal: soon() });
  const down = () => driver.stop('tts', { graceMs: 3_000, signal: soon() });

  it('lists all processes of a container', async () => {
    await make({}, '/service');
    await up();
    await eventually(async () => {
      await driver.look(soon());
      expect(sight()?.pids.length).toBeGreaterThanOrEqual(2);
    });
  });

  it("tells what Docker's own health check says", async () => {
    const second = 1_000_000_000;
    const test = ['CMD-SHELL', 'test ! -e /ill'];
    await make({ Healthcheck: { Test: test, Interval: second, Retries: 1, Timeout: second } }, '/service');
    expect((await up()).health).toBe('starting');
    await eventually(() => expect(sight()?.health).toBe('healthy'));
    const exec = await daemon.docker.getContainer(NAME).exec({ Cmd: ['/bin/sh', '-c', '> /ill'] });
    await exec.start({ Detach: true });
    await eventually(() => expect(sight()?.health).toBe('unhealthy'));
    expect(sight()?.state).toBe('running');
    await down();
    expect(sight()).not.toHaveProperty('health');
  });

  it('tells the end and the new begin of what Docker itself restarts', async () => {
    await make({ HostConfig: { RestartPolicy: { Name: 'always' } } }, '/service', 'failing');
    await up();
    await eventually(() => expect(changes.map(({ kind }) => kind).slice(0, 2)).toEqual(['ended', 'started']));
    expect(changes[0]).toMatchObject({ exit: { code: 1, reason: 'exit code 1' } });
    // And a stop is a stop, also while it waits to be restarted.
    expect(await down()).toBe('stopped');
    const { State } = await daemon.docker.getContainer(NAME).inspect();
    expect([State.Running, State.Restarting]).toEqual([false, false]);
  });

  it('stops what others have paused', async () => {
    await make({}, '/service');
    const { run } = await up();
    await daemon.docker.getContainer(NAME).pause();
    await driver.look(soon());
    // It still holds its memory.
    expect(sight()).toMatchObject({ state: 'running', run });
    expect(await down()).toBe('stopped');
  });

  it('reads the output of a terminal', async () => {
    await make({ Tty: true }, '/service');
    await up();
    const lines = async () => {
      const all: string[] = [];
      for await (const line of driver.logs('tts', { tail: 10, follow: false, signal: soon() })) all.push(line);
      return all;
    };
    await eventually(async () => expect(await lines()).toEqual(['starting', 'loading', 'ready']));
  });

  it('says that a container is gone that others have removed', async () => {
    await make({}, '/service');
    await up();
    await daemon.docker.getContainer(NAME).remove({ force: true });
    await eventually(() => expect(changes.map(({ kind }) => kind)).toEqual(['ended']));
    await eventually(() => expect(sight()).toMatchObject({ state: 'absent', pids: [] }));
    await expect(up()).rejects.toMatchObject({ kind: 'missing' });
    await make({}, '/service');
  });
});
