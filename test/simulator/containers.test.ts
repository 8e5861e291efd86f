import { afterEach, describe, expect, it } from 'vitest';
import type { SimulatedContainer } from '../../src/simulator/container.js';
import type { ContainerConfig } from '../../src/simulator/containerConfig.js';
import { Containers, type DockerEvent } from '../../src/simulator/containers.js';
import { violations } from '../../src/simulator/record.js';
import { parseServicesFile } from '../../src/simulator/servicesFile.js';
import { freePort } from '../parts/ports.js';
import { TestHost } from './host.js';

const TTS = { name: 'tts', image: 'tts:1', vramMb: 4_000, bootMs: 8_000, stopMs: 500, health: null };
const BIG = { name: 'big', image: 'big:1', vramMb: 40_000, bootMs: 8_000, stopMs: 500, health: null };
const THIRD_CARD = 'GPU-51717e16-0000-4000-8000-000000000023';

let playing: Containers | null = null;

afterEach(async () => {
  await playing?.close();
  playing = null;
});

function play(content: object = { containers: [TTS, BIG] }, preset = 'rtx4090') {
  const host = new TestHost(preset);
  const { clock, faults, gpuHost, recorder } = host;
  const events: DockerEvent[] = [];
  const programs = parseServicesFile(content).containers;
  const containers = new Containers({ clock, faults, gpuHost, random: () => 0.5 }, programs, () => {});
  containers.watch((event) => events.push(event));
  playing = containers;
  const begunMb = gpuHost.cards.map((card) => gpuHost.usedMb(card));
  return {
    clock,
    faults,
    gpuHost,
    containers,
    /** Docker's own share of a start, which is over then. */
    start: async (container: SimulatedContainer): Promise<void> => {
      await Promise.all([container.start(), clock.advance(300)]);
    },
    heldMb: (index = 0) => gpuHost.usedMb(gpuHost.card(index)) - (begunMb[index] ?? 0),
    told: () => events.map(({ Action, Actor }) => [Action, Actor.Attributes['name'], Actor.Attributes['exitCode']]),
    said: (name: string) => containers.find(name).log.messages.map(({ text }) => text),
    record: () => recorder.entries,
  };
}

const made = (image: string, more: Partial<ContainerConfig> = {}): ContainerConfig => ({
  Image: image,
  Cmd: [],
  Env: [],
  Labels: {},
  HostConfig: {},
  ...more,
});

describe('what Ollama runs in', () => {
  it('has its runners among its processes, while it runs', async () => {
    const { clock, faults, gpuHost } = new TestHost('rtx4090');
    const programs = parseServicesFile({ containers: [{ ...TTS, serves: 'ollama' }, BIG] }).containers;
    const containers = new Containers(
      { clock, faults, gpuHost, random: () => 0.5 },
      programs,
      () => {},
      () => [77],
    );
    playing = containers;
    const [box, big] = [containers.find('tts'), containers.find('big')];
    expect(containers.pidsOf(box)).toEqual([]);
    for (const container of [box, big]) await Promise.all([container.start(), clock.advance(300)]);
    expect(containers.pidsOf(box)).toEqual([box.state.pid, 77]);
    expect(containers.pidsOf(big)).toEqual([big.state.pid]);
  });
});

describe('a services file', () => {
  it('lists containers, and leaves what it does not know to others', () => {
    expect(parseServicesFile({ containers: [TTS], somethingElse: [1] })).toMatchObject({ containers: [TTS] });
    expect(parseServicesFile({})).toMatchObject({ containers: [] });
  });

  it.each([
    [[], 'JSON object'],
    [{ containers: {} }, "'containers' must be a list"],
    [{ containers: [{ ...TTS, image: '' }] }, "'image' must be a text"],
    [{ containers: [{ ...TTS, vramMb: -1 }] }, "'vramMb' must be a number"],
    [{ containers: [{ ...TTS, health: { port: 1 } }] }, "'path' must be a text"],
    [{ containers: [TTS, TTS] }, "'tts' is there twice"],
  ])('is refused with what is wrong: %j', (content, message) => {
    expect(() => parseServicesFile(content)).toThrow(message);
  });
});

describe('a simulated container', () => {
  it('grows while it boots, then is up, and gives all back later than its end', async () => {
    const { clock, containers, start, heldMb, told, said, record } = play();
    const tts = containers.find('tts');
    await start(tts);
    const steps: number[] = [];
    for (let second = 1; second <= 8; second++) {
      await clock.advance(1_000);
      steps.push(heldMb());
    }
    expect(steps).toEqual([500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000]);
    expect(tts.state.isUp).toBe(true);
    tts.askToStop();
    await clock.advance(499);
    expect(tts.isRunning).toBe(true);
    await clock.advance(1);
    expect([tts.isRunning, tts.state.exitCode, heldMb()]).toEqual([false, 0, 4_000]);
    await clock.advance(5_000);
    expect(heldMb()).toBe(0);
    expect(told()).toEqual([
      ['start', 'tts', undefined],
      ['kill', 'tts', undefined],
      ['die', 'tts', '0'],
    ]);
    expect(said('tts').map((line) => line.split(' ')[1])).toEqual(['starting', 'loading', 'ready', 'stopping']);
    expect(violations(record())).toEqual([]);
  });

  it('ends with 1 and a line for lack of memory, which stays on record', async () => {
    const { clock, containers, start, heldMb, said, record } = play();
    await start(containers.find('big'));
    await clock.advance(20_000);
    expect(containers.find('big').state).toMatchObject({ exitCode: 1, pid: null });
    expect(said('big').at(-1)).toMatch(/^big: error: CUDA out of memory: 5000 MB asked of GPU-/);
    expect(heldMb()).toBe(0);
    expect(violations(record()).map(({ kind, holderKind }) => [kind, holderKind])).toEqual([
      ['out-of-memory', 'container'],
    ]);
  });

  it('is on the card that Docker handed out, or on none', async () => {
    const { clock, containers, start, heldMb } = play({ containers: [TTS] }, 'five-gpus');
    const onCard = { DeviceRequests: [{ Driver: 'cdi', DeviceIDs: [`nvidia.com/gpu=${THIRD_CARD}`] }] };
    await start(containers.create('on-card', made('tts:1', { HostConfig: onCard })));
    await start(containers.create('on-none', made('tts:1', { HostConfig: { DeviceRequests: [] } })));
    await clock.advance(8_000);
    expect([0, 1, 2, 3, 4].map((index) => heldMb(index))).toEqual([0, 0, 4_000, 0, 0]);
    const all = [
      { Driver: 'cdi', DeviceIDs: ['nvidia.com/gpu=all'] },
      { Driver: 'nvidia', Count: -1 },
    ];
    for (const [at, request] of all.entries()) {
      await start(containers.create(`on-all-${at}`, made('tts:1', { HostConfig: { DeviceRequests: [request] } })));
    }
    await clock.advance(8_000);
    expect(heldMb(0)).toBe(8_000);
    const unknown = { DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: ['GPU-of-another-machine'] }] };
    const lost = containers.create('lost', made('tts:1', { HostConfig: unknown }));
    await expect(lost.start()).rejects.toThrow('GPU-of-another-machine: unknown device');
    expect(lost.state).toMatchObject({ startedAt: null, exitCode: 128 });
  });

  it('is made of an image that the file has, under a name that nobody has', async () => {
    const { containers, start, told } = play();
    expect(() => containers.create('other', made('no:1'))).toThrow('No such image: no:1');
    expect(() => containers.create('tts', made('tts:1'))).toThrow('The container name "/tts" is already in use');
    const other = containers.create('other', made('tts:1'));
    expect(containers.find(other.state.id.slice(0, 12))).toBe(other);
    await start(other);
    await expect(containers.remove(other, false)).rejects.toThrow('You cannot remove a running container');
    await containers.remove(other, true);
    expect(() => containers.find('other')).toThrow('No such container: other');
    expect(told().at(-1)).toEqual(['destroy', 'other', undefined]);
  });

  it('serves its page once it is up, and as the fault board says', async () => {
    const port = await freePort();
    const { clock, containers, start, faults } = play({ containers: [{ ...TTS, health: { port, path: '/docs' } }] });
    const status = (path: string): Promise<number | null> =>
      fetch(`http://127.0.0.1:${port}${path}`).then(
        (answer) => answer.status,
        () => null,
      );
    const tts = containers.find('tts');
    await start(tts);
    expect(await status('/docs')).toBeNull();
    const second = containers.create('second', made('tts:1'));
    await expect(start(second)).rejects.toThrow(`listen tcp4 127.0.0.1:${port}: bind: address already in use`);
    await clock.advance(8_000);
    expect([await status('/docs'), await status('/other')]).toEqual([200, 404]);
    faults.set('container-unhealthy', { container: 'tts', count: 1 });
    expect([await status('/docs'), await status('/docs')]).toEqual([503, 200]);
    tts.kill();
    expect(await status('/docs')).toBeNull();
    await start(second);
  });

  it('plays the faults of its name only', async () => {
    const { clock, containers, start, faults } = play();
    const [tts, other] = [containers.find('tts'), containers.create('other', made('tts:1'))];
    faults.set('container-fail', { container: 'tts', count: 1 });
    await expect(tts.start()).rejects.toThrow('cannot start');
    await start(tts);
    await start(other);

    faults.set('container-deaf', { container: 'tts' });
    for (const container of [tts, other]) container.askToStop();
    await clock.advance(1_000);
    expect([tts.isRunning, other.isRunning]).toEqual([true, false]);

    faults.set('container-stuck', { container: 'tts' });
    tts.kill();
    await clock.advance(60_000);
    expect(tts.isRunning).toBe(true);
    faults.clear('container-stuck');
    expect([tts.isRunning, tts.state.exitCode]).toEqual([false, 137]);

    await start(other);
    faults.set('container-crash', { container: 'other', ms: 300, count: 1 });
    await clock.advance(299);
    expect(other.isRunning).toBe(true);
    await clock.advance(1);
    expect([other.isRunning, other.state.exitCode]).toEqual([false, 139]);
  });

  it('goes on over a restart of the simulator, and one whose process is gone has ended', async () => {
    const first = play();
    await first.start(first.containers.find('tts'));
    const other = first.containers.create('other', made('tts:1', { Labels: { of: 'me' } }));
    await first.start(other);
    await first.clock.advance(8_000);
    const [states, processes] = [first.containers.snapshot(), first.gpuHost.snapshot()];
    await first.containers.close();

    const second = play();
    const restored = processes.filter(({ pid }) => pid !== other.state.pid).map((each) => second.gpuHost.restore(each));
    await second.containers.restore(states, restored);
    expect(second.containers.find('tts').state).toEqual(first.containers.find('tts').state);
    expect(second.said('tts')).toEqual(['tts: ready']);
    expect(second.containers.find('other').state).toMatchObject({
      pid: null,
      exitCode: 139,
      config: { Labels: { of: 'me' } },
    });
    expect(second.containers.all).toHaveLength(3);
    second.containers.find('tts').kill();
    await second.clock.advance(5_000);
    expect(second.gpuHost.processes.filter(({ kind }) => kind === 'container')).toEqual([]);
  });
});
