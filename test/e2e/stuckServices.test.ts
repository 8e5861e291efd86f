/** Pain 8: what does not die, also when it is killed, keeps its GPU, and nothing else. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../parts/ports.js';
import { expectNoViolation, type Printed } from '../system/judge.js';
import { serviceStates, servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const STOP_SECONDS = 4;
/** The test's own machine may stop for a moment. */
const MARGIN_SECONDS = 1;

describe('a service that does not die', { timeout: 90_000 }, () => {
  let system: System;
  beforeAll(async () => {
    const natives = await servicesOf({ vidi: { vramMb: 4_096, priority: 40 } });
    const port = await freePort();
    const speaker = {
      image: 'speaker:1',
      ports: [port],
      vram_mb: 4_096,
      stop_timeout_seconds: STOP_SECONDS,
      health: { http: `http://127.0.0.1:${port}/docs` },
    };
    system = await startSystem({
      preset: 'five-gpus',
      speed: 2,
      config: { vram_poll_ms: 100, services: { ...natives, speaker } },
    });
  });
  afterEach(() => {
    system.simulator.faults.clear();
    expectNoViolation(system);
  });
  afterAll(() => stopWithServices(system));

  const gpuOf = async (name: string): Promise<string> => {
    const { tenants } = await system.status();
    const [held] = tenants.find(({ id }) => id === `service/${name}`)?.holdings ?? [];
    if (held === undefined) throw new Error(`${name} holds nothing`);
    return held.device;
  };
  const quarantines = async () => (await system.journal('quarantined', 'quarantine_ended')).map(({ type }) => type);

  it('is told of within its stop time, its GPU takes nothing new until it is gone, and another one goes on', async () => {
    await system.json(['service', 'start', 'speaker']);
    const stuckOn = await gpuOf('speaker');
    system.simulator.faults.set('container-stuck');
    const { outcome } = await system.json<Printed>(['service', 'stop', 'speaker'], 5);
    expect(outcome.failure?.type).toBe('ServiceFailed');
    const told = /^speaker did not end within (\S+) s: it was killed, and is still there$/.exec(
      outcome.failure?.message ?? '',
    );
    expect(Number(told?.[1]), outcome.failure?.message).toBeLessThan(STOP_SECONDS + MARGIN_SECONDS);
    const { gpus } = await system.until('its turn is free', ({ turns }) => turns.length === 0);
    for (const { id, quarantine } of gpus) {
      if (id === stuckOn) expect(quarantine).toMatch(/^service\/speaker was to end and is still there, with 4096 MB$/);
      else expect(quarantine).toBeNull();
    }
    expect((await serviceStates(system))['speaker']).toBe('stopping');

    expect((await system.json<Printed>(['service', 'start', 'vidi'])).outcome.status).toBe('done');
    expect(await gpuOf('vidi')).not.toBe(stuckOn);

    // To ask again changes nothing, and leaves no moment in which the GPU counts as good.
    await system.json<Printed>(['service', 'stop', 'speaker'], 5);
    expect(await quarantines()).toEqual(['quarantined']);

    system.simulator.faults.clear('container-stuck');
    await system.until('its GPU takes work again', (status) =>
      status.gpus.every(({ quarantine }) => quarantine === null),
    );
    expect(await quarantines()).toEqual(['quarantined', 'quarantine_ended']);
    expect((await system.journal('service_stopped')).at(-1)).toMatchObject({
      subject: 'service/speaker',
      message: expect.stringMatching(/^speaker is stopped: used memory dropped by 4096 MB/),
    });
    expect((await system.json<Printed>(['service', 'start', 'speaker'])).outcome.status).toBe('done');
  });
});
