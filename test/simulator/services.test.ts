import { describe, expect, it } from 'vitest';
import { violations } from '../../src/simulator/record.js';
import { type ServiceOrder, Services } from '../../src/simulator/services.js';
import { parseServicesFile } from '../../src/simulator/servicesFile.js';
import { TestHost } from './host.js';

const COMFY = {
  name: 'comfy',
  vramMb: 4_000,
  peakMb: 20_000,
  bootMs: 8_000,
  stopMs: 500,
  health: { port: 1, path: '/up' },
};
const VIDI = { name: 'vidi', vramMb: 4_000, bootMs: 800, stopMs: 100, health: null };

function play(content: object = { programs: [COMFY, VIDI] }) {
  const host = new TestHost('rtx4090');
  const { clock, faults, gpuHost, recorder } = host;
  const services = new Services({ clock, faults, gpuHost, random: () => 0.5 }, parseServicesFile(content).programs);
  const begunMb = host.usedMb;
  return {
    host,
    services,
    connect: (pid: number, name: string, parts: { visibleDevices?: string | null; isUp?: boolean } = {}) => {
      const orders: ServiceOrder[] = [];
      const hello = { pid, name, visibleDevices: null, isUp: false, ...parts };
      return { orders, disconnect: services.connect(hello, (order) => orders.push(order)) };
    },
    heldMb: () => host.usedMb - begunMb,
    faults,
    clock,
    record: () => recorder.entries,
  };
}

describe('a services file', () => {
  it('lists programs, and leaves what it does not know to others', () => {
    const content = { programs: [COMFY, VIDI], others: [{ whatever: true }] };
    expect(parseServicesFile(content)).toEqual({ programs: [COMFY, { ...VIDI, peakMb: null }], containers: [] });
    expect(parseServicesFile({})).toEqual({ programs: [], containers: [] });
  });

  it.each([
    [[], 'JSON object'],
    [{ programs: {} }, "'programs' must be a list"],
    [{ programs: [{ ...VIDI, name: '' }] }, "'name' must be a text"],
    [{ programs: [{ ...VIDI, vramMb: -1 }] }, "'vramMb' must be a number"],
    [{ programs: [{ ...VIDI, health: { port: 1 } }] }, "'path' must be a text"],
    [{ programs: [VIDI, VIDI] }, "'vidi' is there twice"],
  ])('is refused with what is wrong: %j', (content, message) => {
    expect(() => parseServicesFile(content)).toThrow(message);
  });
});

describe('a simulated native service', () => {
  it('grows while it boots, then is up, and gives all back later than its end', async () => {
    const { clock, connect, heldMb, record } = play();
    const { orders, disconnect } = connect(77, 'comfy');
    expect(orders).toEqual([{ kind: 'play', stopMs: 500, health: COMFY.health, gpu: expect.stringContaining('GPU-') }]);
    const steps: number[] = [];
    for (let second = 1; second <= 8; second++) {
      await clock.advance(1_000);
      steps.push(heldMb());
    }
    expect(steps).toEqual([500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000]);
    expect(orders.at(-1)).toEqual({ kind: 'up' });
    disconnect();
    expect(heldMb()).toBe(4_000);
    await clock.advance(5_000);
    expect(heldMb()).toBe(0);
    expect(violations(record())).toEqual([]);
  });

  it('takes its peak at the first work, as ComfyUI does, and no other page counts', async () => {
    const { clock, connect, heldMb, services } = play();
    connect(77, 'comfy');
    await clock.advance(8_000);
    expect(services.page(77, '/up')).toEqual({ status: 200, failure: null });
    expect(services.page(77, '/other')).toEqual({ status: 404, failure: null });
    expect(heldMb()).toBe(4_000);
    expect(services.page(77, '/work')).toEqual({ status: 200, failure: null });
    expect(heldMb()).toBe(20_000);
    expect(services.page(77, '/work').status).toBe(200);
    expect(heldMb()).toBe(20_000);
  });

  it('fails for lack of memory, at its boot or at work, and both stay on record', async () => {
    const { clock, connect, services, record, heldMb } = play();
    connect(77, 'comfy');
    await clock.advance(8_000);
    const other = connect(78, 'comfy');
    await clock.advance(8_000);
    services.page(77, '/work');
    expect(services.page(78, '/work')).toEqual({ status: 500, failure: expect.stringContaining('out of memory') });
    const third = connect(79, 'vidi');
    await clock.advance(800);
    expect(third.orders.at(-1)).toEqual({ kind: 'fail', reason: expect.stringContaining('out of memory') });
    expect(heldMb()).toBe(24_000);
    expect(record().filter(({ kind }) => kind === 'oom')).toMatchObject([
      { holder: 'service-78', holderKind: 'service', name: 'comfy' },
      { holder: 'service-79', name: 'vidi' },
    ]);
    other.disconnect();
    await clock.advance(5_000);
    expect(violations(record()).map(({ kind }) => kind)).toEqual(['out-of-memory', 'out-of-memory']);
  });

  it('is on the card that it sees, or on none', async () => {
    const { clock, connect, heldMb, host } = play();
    const [card] = host.gpuHost.cards;
    for (const hidden of ['', 'GPU-of-another-machine', '-1']) {
      const { orders, disconnect } = connect(77, 'vidi', { visibleDevices: hidden });
      await clock.advance(800);
      expect(orders).toMatchObject([{ kind: 'play', gpu: null }, { kind: 'up' }]);
      expect(heldMb()).toBe(0);
      disconnect();
      await clock.advance(5_000);
    }
    connect(77, 'vidi', { visibleDevices: `${card?.spec.uuid},GPU-other` });
    await clock.advance(800);
    expect(heldMb()).toBe(4_000);
  });

  it('plays the faults of its name only', async () => {
    const { clock, connect, faults, services } = play();
    faults.set('service-fail', { service: 'vidi', count: 1 });
    const comfy = connect(77, 'comfy');
    expect(connect(78, 'vidi').orders.at(-1)).toEqual({ kind: 'fail', reason: 'it cannot start (simulated)' });
    expect(connect(79, 'vidi').orders).toHaveLength(1);
    await clock.advance(8_000);

    faults.set('service-unhealthy', { service: 'comfy', status: 418 });
    expect(services.page(77, '/up').status).toBe(418);
    expect(services.page(79, '/up').status).toBe(404);
    faults.clear('service-unhealthy');
    expect(services.page(77, '/up').status).toBe(200);

    faults.set('service-deaf', { service: 'comfy' });
    expect([services.ignoresTerm('comfy'), services.ignoresTerm('vidi')]).toEqual([true, false]);

    faults.set('service-crash', { service: 'comfy', count: 1 });
    expect(comfy.orders.at(-1)).toEqual({ kind: 'crash' });
    expect(faults.list().map(({ name }) => name)).toEqual(['service-deaf']);
    expect(() => connect(80, 'nobody')).toThrow("unknown program 'nobody'; known: comfy, vidi");
  });
});
