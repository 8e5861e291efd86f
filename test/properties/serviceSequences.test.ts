/**
 * P2–P8: random sequences about services, with concurrent callers, kills, faults and strangers, on several hosts side by
 * side, each judged by the simulator's record and the server's histories.
 *
 * `VRAMFLOW_SEED` is the first sequence's seed, the others follow; with `VRAMFLOW_SEQUENCES=1` it runs alone. The seed says
 * on which host it runs, too.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { judgeServices } from '../judge/services.js';
import { type Pipeline, settleServices } from '../judge/wantedServices.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { MEDIA, MEDIA_PHASES, servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { startSystem } from '../system/system.js';
import { describeSequence, sequenceOf } from './serviceSequences/actions.js';
import { RandomServiceHost } from './serviceSequences/host.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const COUNT = Number(process.env['VRAMFLOW_SEQUENCES'] ?? (SOAK ? 2_000 : 100));
const FIRST_SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000_000);
const SPEED = 12;
/** Memory that settled without coming back counts as foreign after 30 s; a service that died often waits, too. */
const SETTLE_MS = 45_000;
/** After so many the rest would only repeat them. */
const ENOUGH_FAILURES = 5;

/** Short bounds, so that a fault that lasts is seen through within a sequence. */
const bounds = { max_load_retries: 2, degraded_retry_seconds: 1, reconcile_seconds: 5, vram_poll_ms: 100 };
const service = { start_timeout_seconds: 8, stop_timeout_seconds: 5 };
const health = { interval_seconds: 0.2, timeout_seconds: 2, failures: 2 };

const many = {
  big: { vramMb: 14_000, priority: 90 },
  wide: { vramMb: 10_000, priority: 60 },
  middle: { vramMb: 8_000, priority: 60 },
  low: { vramMb: 6_000, priority: 20 },
  small: { vramMb: 2_000, priority: 80 },
  none: { vramMb: 0, priority: 50 },
};
const PROFILES: { preset: string; pipeline: Pipeline }[] = [
  {
    preset: 'rtx4090',
    pipeline: { services: MEDIA, phases: { ...MEDIA_PHASES, 'small-ones': ['vidi', 'cosyvoice'] } },
  },
  {
    preset: 'rtx4090',
    pipeline: {
      services: many,
      phases: { none: [], day: ['wide', 'middle', 'none'], night: ['big', 'low'], thin: ['small', 'none'] },
    },
  },
  {
    preset: 'five-gpus',
    pipeline: {
      services: {
        ...Object.fromEntries([1, 2, 3, 4, 5].map((n) => [`large${n}`, { vramMb: 20_000, priority: n * 10 }])),
        half: { vramMb: 11_000, priority: 35 },
        other: { vramMb: 9_000, priority: 5 },
      },
      phases: { none: [], all: ['large3', 'large4', 'large5', 'half'], few: ['half', 'other', 'large1'] },
    },
  },
];

let temporal: TestServer;
const hosts: RandomServiceHost[] = [];

beforeAll(async () => {
  temporal = await startTemporal();
  for (const [index, { preset, pipeline }] of PROFILES.entries()) {
    const system = await startSystem({
      preset,
      speed: SPEED,
      seed: FIRST_SEED,
      temporal,
      sharesControl: index > 0,
      config: {
        ...bounds,
        services: await servicesOf(pipeline.services, { service, health }),
        phases: pipeline.phases,
      },
    });
    hosts.push(new RandomServiceHost(system, pipeline));
  }
}, 120_000);

afterAll(async () => {
  // The host whose control worker serves them all goes last.
  for (const { system } of hosts.toReversed()) await stopWithServices(system);
  await temporal.stop();
}, 120_000);

/** Plays one sequence and returns what was wrong with it. */
async function run(host: RandomServiceHost, seed: number): Promise<string[]> {
  const { system, pipeline } = host;
  await host.reset();
  const trace = await host.play(sequenceOf(seed));
  const problems = await settleServices(system, pipeline, trace.firstJournal, SETTLE_MS);
  const priorities = Object.fromEntries(
    Object.entries(pipeline.services).map(([name, { priority }]) => [name, priority]),
  );
  return [...problems, ...(await judgeServices(system, trace, priorities))];
}

describe('random sequences about services', () => {
  it(
    `P2–P8 hold in ${COUNT} sequences from seed ${FIRST_SEED}`,
    async () => {
      const seeds = Array.from({ length: COUNT }, (_, index) => FIRST_SEED + index);
      const failures: string[] = [];
      const work = async (host: RandomServiceHost, index: number): Promise<void> => {
        for (const seed of seeds.filter((one) => one % hosts.length === index)) {
          if (failures.length >= ENOUGH_FAILURES) return;
          const problems = await run(host, seed).catch((error: unknown) => [`it broke off: ${String(error)}`]);
          if (problems.length === 0) continue;
          const title = `VRAMFLOW_SEED=${seed} VRAMFLOW_SEQUENCES=1`;
          failures.push([title, describeSequence(sequenceOf(seed)), ...problems].join('\n'));
        }
      };
      await Promise.all(hosts.map(work));
      expect(failures.join('\n\n')).toBe('');
    },
    SOAK ? 4 * 3_600_000 : 12 * 60_000,
  );
});
