import Docker from 'dockerode';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, type TestContext, test, vi } from 'vitest';
import { createDockerDriver } from '../../src/adapters/docker/driver.js';
import type { CreatedContainer, DockerService } from '../../src/adapters/docker/service.js';
import type { ServiceChange, ServiceDriver } from '../../src/adapters/services/driver.js';
import { type Missing, requirePart } from '../parts/parts.js';

/** A running dockerd, real or simulated, that nobody else uses. All its containers are stopped at first. */
export interface DockerUnderTest {
  socketPath: string;
  /**
   * Containers that exist, and say on their output what they do: `starting`, on the other one `loading`, then `ready`.
   * - `service`: serves its page on `page`; says `stopping` at its stop signal, and ends with 0
   * - `deaf`: does not hear its stop signal
   * - `failing`: ends with 1, a second or two after its start
   * - `checked`: has a HEALTHCHECK, made every second or more often, that passes unless it was made to fail
   * - `stranger`: bears the name that vramflow would give to the container of a service `taken`
   */
  containers: { service: string; deaf: string; failing: string; checked: string; stranger: string };
  /** Makes the HEALTHCHECK of `checked`, which runs, fail or pass. */
  setHealth(passes: boolean): Promise<void>;
  page: { port: number; path: string };
  /** An image of which vramflow makes a service with that page on `containerPort`. */
  image: { name: string; command: [string, ...string[]]; containerPort: number };
  /** UUIDs that the daemon can hand out; none on a machine without. */
  gpus: string[];
  /** The daemon goes away, and comes back with its containers. */
  leave(): Promise<void>;
  comeBack(): Promise<void>;
  stop(): Promise<void>;
}

const OWNER = 'host-under-test';
/** Enough for whatever ends by itself. */
const GRACE = 10_000;

/**
 * What vramflow relies on, as a real dockerd was seen to do it (20.10). Each test runs unchanged against the real daemon and
 * against the simulator, so the simulator cannot flatter.
 */
export function describeDockerContract(name: string, start: () => Promise<DockerUnderTest | Missing>): void {
  describe(`the Docker contract, ${name}`, () => {
    let found: DockerUnderTest | Missing | undefined;
    let server: DockerUnderTest;
    let driver: ServiceDriver;
    let changes: ServiceChange[];
    /** What others do, beside vramflow. */
    let others: Docker;

    beforeAll(async () => {
      found = requirePart(`Docker (${name})`, await start());
    });

    afterAll(async () => {
      if (found !== undefined && 'stop' in found) await found.stop();
    });

    beforeEach(async (context: TestContext) => {
      if (found === undefined) throw new Error('It was not started.');
      if ('skip' in found) return context.skip(found.skip);
      server = found;
      others = new Docker({ socketPath: server.socketPath });
      await drive();
    });

    afterEach(async () => {
      if (found === undefined || 'skip' in found) return;
      await driver.close();
      for (const { Id, Names } of await others.listContainers({ all: true })) {
        const container = others.getContainer(Id);
        const { State } = await container.inspect();
        if (State.Running) await container.kill();
        if (Names.some((each) => made.includes(each))) await container.remove();
      }
    });

    /** Names that vramflow gives. */
    const made = ['/vramflow-made', '/vramflow-other'];

    const existing = (): DockerService[] => {
      const { service, deaf, failing } = server.containers;
      return [
        { name: 'service', container: service },
        { name: 'deaf', container: deaf },
        { name: 'failing', container: failing },
        { name: 'nobody', container: 'no-such-container' },
      ];
    };

    const created = (more: Partial<CreatedContainer> = {}): CreatedContainer => ({
      name: 'made',
      image: server.image.name,
      command: server.image.command,
      env: { SETTING: 'one' },
      ports: [{ host: server.page.port, container: server.image.containerPort }],
      ...more,
    });

    /** A driver in place of the one before, as after a restart of the agent. */
    async function drive(services: DockerService[] = [...existing(), created()]): Promise<void> {
      await driver?.close();
      changes = [];
      driver = createDockerDriver({ daemon: { socketPath: server.socketPath }, services, owner: OWNER });
      driver.onChange((change) => changes.push(change));
      await driver.look(soon());
      expect(driver.problem()).toBeNull();
    }

    const sightOf = (service: string) => {
      const sight = driver.sights().find((each) => each.service === service);
      if (sight === undefined) throw new Error(`${service} is not there.`);
      return sight;
    };

    const up = (service: string, gpus: string[] = []) => driver.start(service, { gpus, signal: soon() });
    const down = (service: string, graceMs = GRACE) => driver.stop(service, { graceMs, signal: soon() });

    async function logsOf(service: string, tail = 100): Promise<string[]> {
      const lines: string[] = [];
      for await (const line of driver.logs(service, { tail, follow: false, signal: soon() })) lines.push(line);
      return lines;
    }

    const says = async (service: string, text: string) => {
      await eventually(async () => expect((await logsOf(service)).some((line) => line.includes(text))).toBe(true));
    };

    const pageStatus = () =>
      fetch(`http://127.0.0.1:${server.page.port}${server.page.path}`, { signal: soon() }).then(
        ({ status }) => status,
        () => null,
      );

    test('sees what is configured, in its order, and nothing runs', () => {
      expect(driver.sights()).toMatchObject(
        ['service', 'deaf', 'failing', 'nobody', 'made'].map((service) => ({
          service,
          state: 'absent',
          run: null,
          pids: [],
          runningForMs: null,
        })),
      );
      expect(driver.id).toBe('docker');
    });

    test('starts a container that exists, and a second start finds the first', async () => {
      const first = await up('service');
      expect(first).toMatchObject({ service: 'service', state: 'running' });
      const { Id, State } = await others.getContainer(server.containers.service).inspect();
      expect(first.run).toContain(Id.slice(0, 12));
      expect(first.pids).toContain(State.Pid);
      expect(first.runningForMs).toBeLessThan(10_000);
      expect((await up('service')).run).toBe(first.run);
      await eventually(async () => expect(await pageStatus()).toBe(200));
      expect(sightOf('service').run).toBe(first.run);
      expect(changes).toEqual([]);
    });

    test('two starts at once are one', async () => {
      const [one, other] = await Promise.all([up('service'), up('service')]);
      expect(one.run).not.toBeNull();
      expect(one.run).toBe(other.run);
    });

    test('stops gracefully, and a second stop finds nothing to do', async () => {
      const first = await up('service');
      await says('service', 'ready');
      const begun = performance.now();
      expect(await down('service')).toBe('stopped');
      expect(performance.now() - begun).toBeLessThan(GRACE);
      expect(sightOf('service')).toMatchObject({ state: 'absent', run: null, pids: [] });
      expect(sightOf('service').lastExit).toEqual({ code: 0, signal: null, reason: 'exit code 0' });
      expect((await logsOf('service')).at(-1)).toContain('stopping');
      expect(await down('service')).toBe('stopped');
      const again = await up('service');
      expect(again.run).not.toBe(first.run);
      expect(changes).toEqual([]);
    });

    test('kills what does not hear, once the grace has passed', async () => {
      await up('deaf');
      await says('deaf', 'ready');
      const begun = performance.now();
      expect(await down('deaf', 700)).toBe('stopped');
      expect(performance.now() - begun).toBeGreaterThanOrEqual(700);
      expect(sightOf('deaf').lastExit).toMatchObject({ code: null, signal: 'SIGKILL' });
    });

    test('kills at once without a grace', async () => {
      await up('service');
      expect(await down('service', 0)).toBe('stopped');
      expect(sightOf('service').lastExit).toMatchObject({ signal: 'SIGKILL' });
    });

    test('says what to do about a container that does not exist, and about a name of nobody', async () => {
      await expect(up('nobody')).rejects.toMatchObject({
        kind: 'missing',
        message: expect.stringContaining('no-such-container'),
        remedy: expect.stringContaining('services.nobody.container'),
      });
      expect(await down('nobody')).toBe('stopped');
      expect(await logsOf('nobody')).toEqual([]);
      await expect(up('not-configured')).rejects.toMatchObject({ kind: 'missing' });
    });

    test('says what to do about an image that is missing', async () => {
      await drive([created({ image: 'no-such-image:1' })]);
      await expect(up('made')).rejects.toMatchObject({
        kind: 'missing',
        remedy: expect.stringContaining('docker pull no-such-image:1'),
      });
      expect(sightOf('made')).toMatchObject({ state: 'absent', lastExit: null });
    });

    test('tells by an event how a container ended, with its code and its last words', async () => {
      await up('failing');
      await eventually(() =>
        expect(changes).toEqual([
          { kind: 'ended', service: 'failing', exit: { code: 1, signal: null, reason: 'exit code 1' } },
        ]),
      );
      expect(sightOf('failing')).toMatchObject({ state: 'absent', lastExit: { code: 1 } });
      expect((await logsOf('failing', 1)).length).toBe(1);
    });

    test('knows from Docker, after a restart of the agent, what runs and how the rest ended', async () => {
      const { run } = await up('service');
      await up('failing');
      await eventually(() => expect(sightOf('failing').state).toBe('absent'));
      await drive();
      expect(sightOf('service')).toMatchObject({ state: 'running', run });
      expect(sightOf('failing').lastExit).toMatchObject({ code: 1 });
      expect(changes).toEqual([]);
    });

    test('notices at once what others start and end', async () => {
      const container = others.getContainer(server.containers.service);
      await container.start();
      await eventually(() => expect(changes).toEqual([{ kind: 'started', service: 'service' }]));
      expect(sightOf('service').state).toBe('running');
      const killed = performance.now();
      await container.kill();
      await eventually(() => expect(changes.map(({ kind }) => kind)).toEqual(['started', 'ended']));
      // Far below the time of the look that comes by itself.
      expect(performance.now() - killed).toBeLessThan(3_000);
      expect(changes[1]).toMatchObject({ service: 'service', exit: { code: null, signal: 'SIGKILL' } });
    });

    test("takes Docker's own word where a container has a HEALTHCHECK, and hears of it when that changes", async () => {
      await drive([...existing(), { name: 'checked', container: server.containers.checked }]);
      await up('service');
      expect(sightOf('service')).not.toHaveProperty('health');
      expect((await up('checked')).health).toBe('starting');
      const health = [];
      for (const [word, next] of [
        ['healthy', false],
        ['unhealthy', true],
        ['healthy', true],
      ] as const) {
        await eventually(() => expect(sightOf('checked').health).toBe(word));
        health.push({ kind: 'health', service: 'checked' });
        expect(changes).toEqual(health);
        await server.setHealth(next);
      }
      await down('checked', 0);
      expect(sightOf('checked')).not.toHaveProperty('health');
      // Another run begins anew.
      expect((await up('checked')).health).toBe('starting');
    });

    test('reads the last lines of both outputs', async () => {
      await up('service');
      await says('service', 'ready');
      const lines = await logsOf('service');
      for (const word of ['starting', 'loading', 'ready']) expect(lines.join('\n')).toContain(word);
      expect(lines.every((line) => !line.includes('\n') && !/^\d{4}-/.test(line))).toBe(true);
      expect(await logsOf('service', 1)).toHaveLength(1);
      expect(await logsOf('service', 0)).toEqual([]);
    });

    test('reads only what the last run said', async () => {
      await up('service');
      await says('service', 'ready');
      await down('service');
      await up('service');
      await says('service', 'ready');
      expect((await logsOf('service')).filter((line) => line.includes('ready'))).toHaveLength(1);
      expect((await logsOf('service')).join()).not.toContain('stopping');
    });

    test('follows what is said, over the end of a run to the next, until the caller leaves', async () => {
      await up('service');
      await says('service', 'ready');
      const caller = new AbortController();
      const lines: string[] = [];
      const reading = (async () => {
        for await (const line of driver.logs('service', { tail: 1, follow: true, signal: caller.signal })) {
          lines.push(line);
        }
      })();
      await eventually(() => expect(lines).toHaveLength(1));
      await down('service');
      await eventually(() => expect(lines[1]).toContain('stopping'));
      await up('service');
      await eventually(() => expect(lines.slice(2).some((line) => line.includes('ready'))).toBe(true));
      expect(lines.slice(2).some((line) => line.includes('starting'))).toBe(true);
      await down('service');
      await eventually(() => expect(lines.at(-1)).toContain('stopping'));
      caller.abort();
      await reading;
    });

    test('makes a container of what is configured, and says whose it is', async () => {
      const sight = await up('made', server.gpus);
      expect(sight).toMatchObject({ state: 'running', gpus: server.gpus });
      await eventually(async () => expect(await pageStatus()).toBe(200));
      const { Config, HostConfig } = await others.getContainer('vramflow-made').inspect();
      expect(Config.Labels).toMatchObject({ 'vramflow.owner': OWNER, 'vramflow.service': 'made' });
      expect(Config.Labels['vramflow.config']).toMatch(/^[0-9a-f]{16}$/);
      expect(Config.Env).toContain('SETTING=one');
      expect(Config.Cmd).toEqual(server.image.command);
      expect(HostConfig.PortBindings).toEqual({
        [`${server.image.containerPort}/tcp`]: [{ HostIp: '127.0.0.1', HostPort: String(server.page.port) }],
      });
      expect(await down('made')).toBe('stopped');
    });

    test('starts the same container again, and makes another one when its configuration changed', async () => {
      const idOfMade = async () => (await others.getContainer('vramflow-made').inspect()).Id;
      await up('made');
      const first = await idOfMade();
      await down('made');
      await up('made');
      expect(await idOfMade()).toBe(first);
      await drive([created({ env: { SETTING: 'two' } })]);
      // One that runs is the answer, whatever it was made of.
      expect((await up('made')).state).toBe('running');
      expect(await idOfMade()).toBe(first);
      await down('made');
      await up('made');
      expect(await idOfMade()).not.toBe(first);
      expect((await others.getContainer('vramflow-made').inspect()).Config.Env).toContain('SETTING=two');
    });

    test('touches no stranger of the same name', async () => {
      await drive([created({ name: 'taken' })]);
      const stranger = others.getContainer(server.containers.stranger);
      const before = await stranger.inspect();
      await expect(up('taken')).rejects.toMatchObject({
        kind: 'failed',
        remedy: expect.stringContaining('docker rename vramflow-taken'),
      });
      await stranger.start();
      await driver.look(soon());
      expect(sightOf('taken')).toMatchObject({ state: 'absent', pids: [] });
      await expect(up('taken')).rejects.toMatchObject({ kind: 'failed' });
      expect(await down('taken', 0)).toBe('stopped');
      const after = await stranger.inspect();
      expect([after.Id, after.State.Running]).toEqual([before.Id, true]);
    });

    test('names the port that another program has, and leaves nothing half-started', async () => {
      await up('service');
      await drive([created(), ...existing()]);
      await expect(up('made')).rejects.toMatchObject({
        kind: 'port-taken',
        remedy: expect.stringContaining(String(server.page.port)),
      });
      expect(sightOf('made')).toMatchObject({ state: 'absent', pids: [] });
      await down('service');
      expect((await up('made')).state).toBe('running');
    });

    test('undoes a start that is given up', async () => {
      for (const delayMs of [0, 10, 20, 40, 80, 160, 320]) {
        const caller = new AbortController();
        const starting = driver.start('service', { gpus: [], signal: caller.signal });
        setTimeout(() => caller.abort(new Error('not wanted any more')), delayMs);
        const given = await starting.catch((error: unknown) => error);
        await driver.look(soon());
        // It may have been done before it was given up; else nothing of it is left.
        if (given instanceof Error) {
          expect(given.message).toBe('not wanted any more');
          expect(sightOf('service')).toMatchObject({ state: 'absent', pids: [] });
        } else {
          expect(sightOf('service').state).toBe('running');
          await down('service', 0);
        }
      }
    });

    test('a stop that comes during a start has the last word', async () => {
      const starting = up('service');
      const stopping = down('service', 500);
      expect((await starting).state).toBe('running');
      expect(await stopping).toBe('stopped');
      await driver.look(soon());
      expect(sightOf('service').state).toBe('absent');
    });

    test('says that the daemon is away, and looks anew when it is back', async () => {
      const { run } = await up('service');
      await up('deaf');
      await server.leave();
      await eventually(() => expect(changes.map(({ kind }) => kind)).toEqual(['driver-away']));
      expect(driver.problem()).toContain('systemctl start docker');
      await driver.look(soon());
      expect(sightOf('service')).toMatchObject({ state: 'unknown', run });
      await expect(down('service')).rejects.toMatchObject({ kind: 'unavailable' });
      await expect(up('service')).rejects.toMatchObject({ kind: 'unavailable' });

      await server.comeBack();
      // Before the driver has found its way back.
      await others.getContainer(server.containers.deaf).kill();
      await eventually(() => expect(driver.problem()).toBeNull());
      await eventually(() =>
        expect(changes.map(({ kind }) => kind).sort()).toEqual(['driver-away', 'driver-back', 'ended']),
      );
      expect(sightOf('service')).toMatchObject({ state: 'running', run });
      expect(sightOf('deaf').state).toBe('absent');
      // And events come again.
      await others.getContainer(server.containers.service).kill();
      await eventually(() => expect(sightOf('service').state).toBe('absent'));
    });
  });
}

const soon = () => AbortSignal.timeout(30_000);

async function eventually(check: () => void | Promise<void>): Promise<void> {
  await vi.waitFor(check, { timeout: 15_000, interval: 30 });
}
