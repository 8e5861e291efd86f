/** P3, P5, P13 in every order: each order of the phases, each ordered pair of services, and who makes room for whom. */
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { expectNoViolation, fromNow, type Printed } from '../system/judge.js';
import {
  livingServices,
  MEDIA,
  MEDIA_PHASES,
  type ServiceFigures,
  serviceStarts,
  servicesOf,
  stopWithServices,
} from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const SPEED = 10;
const SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000_000);
const health = { interval_seconds: 0.2 };

const permutations = (of: string[]): string[][] =>
  of.length < 2 ? [of] : of.flatMap((one) => permutations(of.filter((x) => x !== one)).map((rest) => [one, ...rest]));
const subsets = (of: string[]): string[][] =>
  of.reduce<string[][]>((all, one) => [...all, ...all.map((each) => [...each, one])], [[]]);

/** What services may hold on the only card, by the record of the card itself. */
function budgetMb(system: System): number {
  expect(running(system)).toEqual([]);
  const { gpuHost } = system.simulator;
  return gpuHost.freeMb(gpuHost.card(0));
}

const running = (system: System): string[] =>
  livingServices(system)
    .map(({ name }) => name)
    .sort();

const start = async (system: System, service: string) => {
  const { code, stdout, stderr } = await system.cli('service', 'start', service, '-o', 'json');
  expect([0, 3], stderr).toContain(code);
  return (JSON.parse(stdout) as Printed).outcome;
};

describe(`services in every order, seed ${SEED}`, { timeout: 90_000 }, () => {
  describe('the media pipeline', () => {
    let system: System;
    let budget: number;
    beforeAll(async () => {
      system = await startSystem({
        speed: SPEED,
        config: { vram_poll_ms: 100, services: await servicesOf(MEDIA, { health }), phases: MEDIA_PHASES },
      });
      budget = budgetMb(system);
    });
    afterEach(() => expectNoViolation(system));
    afterAll(() => stopWithServices(system));
    const prepare = (phase: string) => system.json<Printed>(['phase', 'prepare', phase]);

    it.each(permutations(['2', '3', '4']))('phases %s, %s, %s, then none', async (...phases) => {
      await prepare('none');
      for (const [index, phase] of [...phases, 'none'].entries()) {
        const before = MEDIA_PHASES[phases[index - 1] ?? 'none'] ?? [];
        const listed = MEDIA_PHASES[phase] ?? [];
        const since = fromNow(system);
        const { outcome } = await prepare(phase);
        expect(outcome.steps.map(({ kind, tenant }) => `${kind} ${tenant}`)).toEqual([
          ...before.map((name) => `unload service/${name}`),
          ...listed.map((name) => `load service/${name}`),
        ]);
        expect(running(system)).toEqual(listed);
        expect(serviceStarts(since()).map(({ name }) => name)).toEqual(listed);
      }
    });

    const pairs = Object.keys(MEDIA).flatMap((a) => Object.keys(MEDIA).map((b) => [a, b] as const));
    it.each(pairs)('%s is there, then %s is started by hand', async (a, b) => {
      await prepare('none');
      expect(await start(system, a)).toMatchObject({ status: 'done', displaced: [] });
      const [there, asked] = [MEDIA[a], MEDIA[b]];
      if (there === undefined || asked === undefined) throw new Error('the pipeline has no such service');
      const since = fromNow(system);
      const outcome = await start(system, b);
      const started = serviceStarts(since()).map(({ name }) => name);
      if (a === b) {
        expect(outcome).toMatchObject({ status: 'done', steps: [] });
        expect(started).toEqual([]);
      } else if (there.vramMb + asked.vramMb <= budget) {
        expect(outcome).toMatchObject({ status: 'done', displaced: [] });
        expect(running(system)).toEqual([a, b].sort());
        expect(started).toEqual([b]);
      } else if (asked.priority >= there.priority) {
        expect(outcome).toMatchObject({ status: 'done', displaced: [`service/${a}`] });
        expect(running(system)).toEqual([b]);
        expect(started).toEqual([b]);
      } else {
        expect(outcome).toMatchObject({
          status: 'refused',
          refusal: { code: 'holder-outranks', message: expect.stringContaining(`service/${a} holds`) },
        });
        expect(running(system)).toEqual([a]);
        expect(started).toEqual([]);
      }
    });
  });

  describe('P5: as many as needed and no more', () => {
    const services: Record<string, ServiceFigures> = {
      big: { vramMb: 14_000, priority: 90 },
      wide: { vramMb: 10_000, priority: 60 },
      middle: { vramMb: 8_000, priority: 60 },
      low: { vramMb: 6_000, priority: 20 },
      small: { vramMb: 2_000, priority: 80 },
      tiny: { vramMb: 1_000, priority: 5 },
    };
    const names = Object.keys(services);
    const figures = (name: string): ServiceFigures => services[name] ?? { vramMb: 0, priority: 0 };
    const sumMb = (of: readonly string[]): number => of.reduce((sum, name) => sum + figures(name).vramMb, 0);
    /** About what the desktop leaves; the test itself asks the card. */
    const LEAST_MB = 23_000;
    const CASES = SOAK ? 40 : 8;

    const crowded = subsets(names)
      .filter((there) => there.length > 0 && sumMb(there) <= LEAST_MB)
      .flatMap((there) =>
        names
          .filter((asked) => !there.includes(asked) && sumMb([...there, asked]) > LEAST_MB + 1_000)
          .map((asked) => ({ there, asked })),
      );
    const cases = fc.sample(fc.constantFrom(...crowded), { seed: SEED, numRuns: CASES });
    const phases = Object.fromEntries(subsets(names).map((there) => [`with-${there.join('-') || 'none'}`, there]));

    let system: System;
    let budget: number;
    beforeAll(async () => {
      system = await startSystem({
        speed: SPEED,
        config: { vram_poll_ms: 100, services: await servicesOf(services, { health }), phases },
      });
      budget = budgetMb(system);
    });
    afterEach(() => expectNoViolation(system));
    afterAll(() => stopWithServices(system));

    it.each(cases)('$there are there, then $asked is started by hand', async ({ there, asked }) => {
      await system.json(['phase', 'prepare', `with-${there.join('-')}`]);
      expect(running(system)).toEqual([...there].sort());
      const { priority } = figures(asked);
      const mayGo = there.filter((name) => figures(name).priority <= priority);
      const suffices = (gone: readonly string[]): boolean =>
        sumMb([...there.filter((name) => !gone.includes(name)), asked]) <= budget;
      const outcome = await start(system, asked);
      if (!suffices(mayGo)) {
        expect(outcome).toMatchObject({ status: 'refused', steps: [] });
        expect(running(system)).toEqual([...there].sort());
        return;
      }
      const gone = outcome.displaced.map((tenant) => tenant.slice('service/'.length));
      expect(outcome.status, outcome.summary).toBe('done');
      expect(running(system)).toEqual([...there.filter((name) => !gone.includes(name)), asked].sort());
      expect(gone.filter((name) => !mayGo.includes(name))).toEqual([]);
      // None of them could have stayed.
      for (const spared of gone)
        expect(suffices(gone.filter((name) => name !== spared)), `${spared} had to go`).toBe(false);
      // The highest that went is not above what some other choice would have cost.
      const worst = (of: readonly string[]): number => Math.max(...of.map((name) => figures(name).priority));
      for (const other of subsets(mayGo).filter(suffices)) expect(worst(gone)).toBeLessThanOrEqual(worst(other));
    });
  });
});
