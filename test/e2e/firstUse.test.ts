/** A service that fills at its first use, as ComfyUI does: what it took counts from then on, P5 and a restart included. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { PlanPreview } from '../../src/contracts/operation.js';
import { expectNoViolation, type Printed } from '../system/judge.js';
import { servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const DECLARED_MB = 8_000;
const FIRST_USE_MB = 14_000;

describe('a service that takes more at its first use than is declared', { timeout: 90_000 }, () => {
  let system: System;
  beforeAll(async () => {
    const services = await servicesOf({
      painter: { vramMb: DECLARED_MB, priority: 50 },
      near: { vramMb: 6_000, priority: 40 },
      far: { vramMb: 4_000, priority: 30 },
    });
    system = await startSystem({
      speed: 10,
      firstUseMb: { painter: FIRST_USE_MB },
      config: { vram_poll_ms: 100, services, phases: { others: ['near', 'far'], none: [] } },
    });
  });
  afterEach(() => expectNoViolation(system));
  afterAll(() => stopWithServices(system));

  const prepare = (phase: string) => system.json<Printed>(['phase', 'prepare', phase]);
  const start = async () => (await system.json<Printed>(['service', 'start', 'painter'])).outcome;
  const use = async (): Promise<number> => {
    const { health } = system.config.services['painter'] ?? {};
    return (await fetch(new URL('/work', health?.http))).status;
  };
  const painter = async () => (await system.status()).tenants.find(({ id }) => id === 'service/painter');

  it('is charged what is declared until then', async () => {
    await prepare('others');
    expect(await start()).toMatchObject({ status: 'done', displaced: [] });
    expect(await painter()).toMatchObject({ chargeMb: DECLARED_MB, chargeSource: 'declared' });
    await prepare('none');
    // What its start and its stop took, not what is supposed before one was seen.
    const took = (await system.journal('service_started', 'service_stopped'))
      .filter(({ subject }) => subject === 'service/painter')
      .map(({ details }) => details['ms']);
    const [loadMs, stopMs] = took;
    const gpu = system.simulator.gpuHost.card(0).spec.uuid;
    expect(await painter()).toMatchObject({ loadMs, loadMsOn: { [gpu]: loadMs }, stopMs });
    const { plan } = await system.json<PlanPreview>(['plan', 'service', 'start', 'painter']);
    expect(plan).toMatchObject({ kind: 'plan', expectedMs: loadMs });
  });

  it('is charged what it took from then on, and that is told of once', async () => {
    await start();
    const before = (await painter())?.loadMs;
    expect(await use()).toBe(200);
    await system.until('it is seen', ({ tenants }) => tenants.some(({ seenMb }) => seenMb === FIRST_USE_MB));
    expect(await use()).toBe(200);
    // A use is no start.
    expect(await painter()).toMatchObject({ chargeMb: FIRST_USE_MB, declaredMb: DECLARED_MB, loadMs: before });
    expect(await system.journal('footprint_drift')).toMatchObject([
      { subject: 'service/painter', details: { declaredMb: DECLARED_MB, seenMb: FIRST_USE_MB } },
    ]);
    await prepare('none');
    expect(await system.json(['service', 'list'])).toMatchObject({
      services: [
        { name: 'painter', declared_mb: DECLARED_MB, seen_mb: FIRST_USE_MB, charge_mb: FIRST_USE_MB },
        { name: 'near', declared_mb: 6_000, seen_mb: 6_000 },
        { name: 'far', declared_mb: 4_000, seen_mb: 4_000 },
      ],
    });
    expect((await system.cli('service', 'list')).stdout).toMatch(/painter .* 8000 +14000 +14000 \(learned\)/);
    expect((await system.cli('status')).stdout).toContain('14000 MB learned (14000 MB seen, 8000 MB declared)');
  });

  it('makes as much room as it will take at its use, also by the next agent (P5)', async () => {
    await system.agent?.kill();
    await system.startAgent();
    await prepare('others');
    // By what is declared all three would fit. One of them has to go, and no more than that.
    const outcome = await start();
    expect(outcome).toMatchObject({ status: 'done', displaced: ['service/far'] });
    expect(outcome.steps.map(({ kind, tenant }) => `${kind} ${tenant}`)).toEqual([
      'unload service/far',
      'load service/painter',
    ]);
    expect(await use()).toBe(200);
    expect(await system.journal('footprint_drift')).toHaveLength(1);
  });
});
