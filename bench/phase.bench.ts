/** What vramflow adds to a phase: 3 → 4 against the same stop, reclaim and start by hand; and what the planner takes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { createNativeDriver } from '../src/adapters/native/driver.js';
import type { ServiceDriver } from '../src/adapters/services/driver.js';
import { serviceTenant } from '../src/contracts/names.js';
import type { ServicePolicy } from '../src/contracts/policy.js';
import { planResidency } from '../src/domain/planResidency.js';
import { resolveTarget } from '../src/domain/resolveTarget.js';
import { ageMs, lookAt } from '../src/processes/proc.js';
import { seededRandom } from '../src/simulator/random.js';
import { gpu, host, intents, policy, tenant } from '../test/domain/planner/hosts.js';
import type { Printed } from '../test/system/judge.js';
import { fromNow } from '../test/system/judge.js';
import { livingServices, MEDIA, MEDIA_PHASES, servicesOf, stopWithServices } from '../test/system/mediaPipeline.js';
import { type System, startSystem } from '../test/system/system.js';
import { median, ms, quantile, type Row, report, spread } from './report.js';

/** The host's own times shrink; what vramflow adds does not. */
const SPEED = 5;
const WARM = 1;
const RUNS = 20;
const GRACE_MS = 20_000;
const LOOK_MS = 5;
const OVERHEAD_MS = 300;
const NEXT_START_MS = 150;
const PLAN_MS = 5;

describe('a phase', () => {
  const rows: Row[] = [];
  afterAll(() => report('A phase, 3 → 4, against the same by hand', rows));

  it('against the floor: stop, reclaim and start of the same services through the driver', async () => {
    const services = await servicesOf(MEDIA, { health: { interval_seconds: 0.1 } });
    const system = await startSystem({
      speed: SPEED,
      config: { vram_poll_ms: 100, services, phases: MEDIA_PHASES },
    });
    const byHand = handOf(system, services);
    const [floors, phases, gaps]: number[][] = [[], [], []];
    for (let run = -WARM; run < RUNS; run += 1) {
      const floor = await byHand.switch();
      await system.json(['phase', 'prepare', '3']);
      const since = fromNow(system);
      const { outcome } = await system.json<Printed>(['phase', 'prepare', '4']);
      expect(outcome.steps.map(({ kind }) => kind)).toEqual(['unload', 'load']);
      const gap = await gapTo(system, 'comfyui', since());
      await system.json(['phase', 'prepare', 'none']);
      if (run < 0) continue;
      floors?.push(floor);
      phases?.push(outcome.totalMs);
      gaps?.push(gap);
    }
    await byHand.close();
    await stopWithServices(system);
    const overhead = median(phases ?? []) - median(floors ?? []);
    const next = quantile(gaps ?? [], 0.99);
    const none = { goal: '', met: null };
    rows.push(
      { what: `stop + reclaim + start by hand, simulated at ${SPEED}×`, measured: spread(floors ?? []), ...none },
      { what: 'phase 3 → 4', measured: spread(phases ?? []), ...none },
      {
        what: '  overhead, median − median',
        measured: ms(overhead),
        goal: `≤ ${OVERHEAD_MS} ms`,
        met: overhead <= OVERHEAD_MS,
      },
      { what: '  VRAM free → next process', measured: spread(gaps ?? []), ...none },
      {
        what: '  VRAM free → next process, p99',
        measured: ms(next),
        goal: `≤ ${NEXT_START_MS} ms`,
        met: next <= NEXT_START_MS,
      },
    );
  });

  it('the planner, 12 services on 8 GPUs', () => {
    const samples = planTimes(3_000);
    const p99 = quantile(samples, 0.99);
    // The same cases again and again: the least of each is without what the machine, the compiler and the collector add.
    const passes = [samples, ...Array.from({ length: 4 }, () => planTimes(3_000))];
    const itself = samples.map((_, n) => Math.min(...passes.map((pass) => pass[n] ?? Number.POSITIVE_INFINITY)));
    rows.push(
      { what: 'plan of a start or a phase, 12 services on 8 GPUs', measured: spread(samples), goal: '', met: null },
      { what: '  p99', measured: ms(p99), goal: `≤ ${PLAN_MS} ms`, met: p99 <= PLAN_MS },
      {
        what: '  p99 of the work itself, the least of 5 passes',
        measured: ms(quantile(itself, 0.99)),
        goal: '',
        met: null,
      },
    );
  });
});

/** The same services through a driver of its own, as tightly as it can be done. */
function handOf(system: System, services: Record<string, object>) {
  const folder = mkdtempSync(join(tmpdir(), 'vramflow-bench-'));
  const [file = '', ...args] = system.simulator.info.service;
  const driver: ServiceDriver = createNativeDriver({
    services: ['cosyvoice', 'comfyui'].map((name) => ({ name, argv: [file, ...args, '--name', name] as const })),
    stateDir: folder,
  });
  const signal = new AbortController().signal;
  const { gpuHost } = system.simulator;
  const card = gpuHost.card(0);
  const start = async (name: string): Promise<void> => {
    await driver.start(name, { gpus: [card.spec.uuid], signal });
    const { health } = services[name] as { health: { http: string } };
    while (!(await fetch(health.http).catch(() => null))?.ok) await pause(LOOK_MS);
  };
  return {
    /** @returns ms from the stop of the one to the readiness of the other */
    async switch(): Promise<number> {
      const emptyMb = gpuHost.usedMb(card);
      await start('cosyvoice');
      const began = performance.now();
      await driver.stop('cosyvoice', { graceMs: GRACE_MS, signal });
      while (gpuHost.usedMb(card) > emptyMb) await pause(LOOK_MS);
      await start('comfyui');
      const took = performance.now() - began;
      await driver.stop('comfyui', { graceMs: GRACE_MS, signal });
      while (gpuHost.usedMb(card) > emptyMb) await pause(LOOK_MS);
      return took;
    },
    async close(): Promise<void> {
      await driver.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Real ms from the moment that the card had all its memory back to the birth of the service's process. */
async function gapTo(system: System, name: string, record: ReturnType<ReturnType<typeof fromNow>>): Promise<number> {
  const back = record.findLast(({ kind }) => kind === 'reclaimed');
  const pid = livingServices(system, name)[0]?.pid;
  if (back === undefined || pid === undefined) throw new Error(`${name} does not run, or nothing was reclaimed`);
  const sight = await lookAt(pid);
  if (typeof sight === 'string') throw new Error(`process ${pid} cannot be looked at: ${sight}`);
  return Date.now() - ageMs(sight.startTicks) - Date.parse(back.at);
}

/** Random hosts of 12 services on 8 GPUs, crowded, and what somebody asks of them. */
function planTimes(count: number): number[] {
  const random = seededRandom(1);
  const int = (below: number): number => Math.floor(random() * below);
  const gpus = Array.from({ length: 8 }, (_, n) =>
    gpu({ id: `GPU-${n}`, totalMb: [24_576, 12_288, 49_152][n % 3] ?? 0 }),
  );
  const names = Array.from({ length: 12 }, (_, n) => `service${n}`);
  const samples: number[] = [];
  for (let run = 0; run < count; run += 1) {
    const sizes = names.map(() => 2_000 + int(20) * 1_000);
    const free = gpus.map(({ totalMb }) => (totalMb ?? 0) - 1_500);
    const tenants = names.map((name, n) => {
      const mb = sizes[n] ?? 0;
      const fits = free.flatMap((room, at) => (room >= mb ? [at] : []));
      const at = fits[int(fits.length)];
      const runs = at !== undefined && n > 0 && int(8) > 0;
      if (runs) free[at] = (free[at] ?? 0) - mb;
      return tenant(serviceTenant(name), {
        kind: 'service',
        driver: 'native',
        chargeMb: mb,
        peakMb: mb,
        priority: n === 0 ? 100 : int(100),
        loadMs: 1_000 + int(20_000),
        ...(runs ? { state: 'resident', holdings: [{ device: gpus[at]?.id ?? '', mb }], residentForMs: 60_000 } : {}),
      });
    });
    const services = tenants.map(
      (one, n): ServicePolicy => ({
        name: names[n] ?? '',
        driver: 'native',
        declaredMb: one.chargeMb,
        priority: one.priority,
        pinned: false,
        startTimeoutSeconds: 120,
        stopTimeoutSeconds: 30,
      }),
    );
    const listed = tenants.filter(() => int(3) === 0).map(({ id }) => id);
    const configured = policy({ services, phases: [{ name: 'one', number: 1, services: listed }] });
    const observed = host(tenants, gpus);
    const began = performance.now();
    const goal =
      run % 2 === 0
        ? ({ kind: 'service', tenant: serviceTenant('service0'), verb: 'start' } as const)
        : ({ kind: 'phase', phase: 'one' } as const);
    planResidency(observed, resolveTarget(goal, intents(), configured, observed), configured);
    samples.push(performance.now() - began);
  }
  return samples;
}
