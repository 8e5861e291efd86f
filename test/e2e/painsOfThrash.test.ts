/** Pain 7 of what users of other products report: swap thrash, waiting without a bound, a long job swapped out. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LeaseState } from '../../src/contracts/lease.js';
import { entriesOf, expectNoViolation, fromNow, loadedModels, type Printed, stranger } from '../system/judge.js';
import { isQuiet } from '../system/operations.js';
import { type System, startSystem } from '../system/system.js';

const ONE = 'qwen3-vl:8b';
const OTHER = 'qwen2.5:14b';

describe('pains of other products: two models of one priority, and room for one', { timeout: 120_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({
      speed: 4,
      config: {
        idle_timeout_seconds: 'never',
        models: { [ONE]: { vram_mb: 10_800 }, [OTHER]: { vram_mb: 11_800 } },
      },
    });
    stranger(system, 6_000);
    await system.until('the stranger is seen', ({ gpus }) => (gpus[0]?.foreignMb ?? 0) > 6_000);
  });
  afterEach(async () => {
    system.simulator.faults.clear();
    await isQuiet(system);
    expectNoViolation(system);
    for (const { name } of loadedModels(system)) await system.json(['model', 'unload', name]);
  });
  afterAll(() => system.stop());

  const generate = (model: string) => system.cli('generate', model, 'hello', '-o', 'json');
  const usesOf = (model: string) => (status: Awaited<ReturnType<System['status']>>) =>
    status.tenants.find(({ id }) => id === `model/${model}`)?.uses ?? 0;

  it('pain 7: two programs that ask in turns are both served, and no model is loaded more often than it is asked for', async () => {
    const since = fromNow(system);
    const codes: (number | string)[] = [];
    const client = async (model: string) => {
      for (let request = 0; request < 3; request += 1) {
        const { code, stderr } = await generate(model);
        codes.push(code === 0 ? 0 : stderr);
      }
    };
    await Promise.all([client(ONE), client(OTHER)]);
    expect(codes).toEqual([0, 0, 0, 0, 0, 0]);
    const ends = entriesOf(since(), 'load-end');
    expect(ends.every(({ outcome }) => outcome === 'loaded')).toBe(true);
    expect(ends.length).toBeLessThanOrEqual(codes.length);
  });

  it('pain 7: what answers is not swapped out: the other request waits, says so, and is served then', async () => {
    await system.json(['model', 'load', ONE]);
    system.simulator.faults.set('generate-hang', { model: ONE });
    const long = generate(ONE);
    await system.until('it is in use', (status) => usesOf(ONE)(status) === 1);
    const since = fromNow(system);
    const refusals = (await system.journal('operation')).length;
    const waits = generate(OTHER);
    let told = refusals;
    while (told === refusals) told = (await system.journal('operation')).length;
    expect(loadedModels(system).map(({ name }) => name)).toEqual([ONE]);
    system.simulator.faults.clear();
    expect(await long).toMatchObject({ code: 0 });
    const { code, stderr } = await waits;
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(
        /waits for room: .*qwen3-vl:8b holds .* and is not pushed out: in use by 1 request/,
      ),
    });
    const [answered] = entriesOf(since(), 'request-end', { model: ONE });
    const [swapped] = entriesOf(since(), 'unload-start', { model: ONE });
    expect(answered?.aborted).toBe(false);
    expect(swapped?.seq).toBeGreaterThan(answered?.seq ?? Number.POSITIVE_INFINITY);
  });

  it('pain 7: a long job under a lease is not swapped out by its equal, only by what ranks higher', async () => {
    const lease = [
      'lease',
      'acquire',
      '--id',
      'l7',
      '--mb',
      '14000',
      '--ttl',
      '1200',
      '--holder',
      'a 20-minute render',
    ];
    expect(await system.json<LeaseState>(lease)).toMatchObject({ state: 'held', priority: 50 });
    const refused = await generate(ONE);
    expect(refused).toMatchObject({ code: 3 });
    expect(refused.stderr).toMatch(
      /reservation\/l7 \(a 20-minute render\) holds 14,000 MB .*a lease of the same priority/,
    );
    const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
    expect(leases).toMatchObject([{ id: 'l7', state: 'held' }]);
    // A person's load is above it, and says whom it ends.
    const plan = await system.cli('plan', 'model', ONE);
    expect(plan.stdout).toContain('end reservation/l7 (a 20-minute render)');
    expect((await system.json<Printed>(['model', 'load', ONE])).outcome.displaced).toEqual(['reservation/l7']);
  });
});
