/**
 * M20: random sequences with concurrent callers, strangers and faults, on several hosts side by side, each judged by the
 * simulator's record and the server's histories for all of M3–M15.
 *
 * `VRAMFLOW_SEED` is the first sequence's seed, the others follow; with `VRAMFLOW_SEQUENCES=1` it runs alone. The seed says
 * on which host it runs, too.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { judgeHost } from '../judge/judge.js';
import { settle } from '../judge/settled.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { type System, startSystem } from '../system/system.js';
import { describeSequence, sequenceOf } from './sequences/actions.js';
import { RandomHost } from './sequences/host.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const COUNT = Number(process.env['VRAMFLOW_SEQUENCES'] ?? (SOAK ? 2_000 : 100));
const FIRST_SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000_000);
/** Memory that settled without coming back counts as foreign after 30 s; until then its GPU is in quarantine. */
const QUARANTINE_MS = 45_000;
const SPEED = 12;
/** After so many the rest would only repeat them. */
const ENOUGH_FAILURES = 5;

const models = { vlm: 'qwen3-vl:8b', others: ['llava:7b', 'qwen2.5:14b'] };
/** Short bounds, so that a fault that lasts is seen through within a sequence. */
const bounds = {
  load_timeout_seconds: 3,
  unload_timeout_seconds: 2,
  max_load_retries: 2,
  degraded_retry_seconds: 1,
  reconcile_seconds: 5,
  // As dense as during operations, so that the reader starts no other stream for them.
  vram_poll_ms: 100,
};
const PROFILES = [
  { preset: 'rtx4090', ...models, idleSeconds: 300 },
  { preset: 'rtx4090', ...models, idleSeconds: 2 },
  { preset: 'laptop-6gb', vlm: 'qwen2.5:3b', others: ['moondream:latest', 'qwen3-vl:8b'], idleSeconds: 300 },
];
const MB: Record<string, number> = {
  'qwen3-vl:8b': 10_752,
  'llava:7b': 6_400,
  'qwen2.5:14b': 11_800,
  'qwen2.5:3b': 2_700,
  'moondream:latest': 2_200,
};

let temporal: TestServer;
const hosts: RandomHost[] = [];

beforeAll(async () => {
  temporal = await startTemporal();
  for (const [index, { preset, vlm, others, idleSeconds }] of PROFILES.entries()) {
    const names = [vlm, ...others];
    const system: System = await startSystem({
      preset,
      speed: SPEED,
      seed: FIRST_SEED,
      temporal,
      sharesControl: index > 0,
      config: {
        ...bounds,
        vlm_model: vlm,
        idle_timeout_seconds: idleSeconds,
        models: Object.fromEntries(names.map((name) => [name, { vram_mb: MB[name] }])),
      },
    });
    hosts.push(new RandomHost(system, names));
  }
}, 120_000);

afterAll(async () => {
  // The host whose control worker serves them all goes last.
  for (const { system } of hosts.toReversed()) await system.stop();
  await temporal.stop();
}, 120_000);

/** Plays one sequence and returns what was wrong with it. */
async function run(host: RandomHost, seed: number): Promise<string[]> {
  const sequence = sequenceOf(seed);
  const { system } = host;
  const problems = await settle(system, 15_000);
  await host.reset();
  const trace = await host.play(sequence);
  problems.push(...(await settle(system, QUARANTINE_MS)));
  problems.push(...(await judgeHost(system, trace, { calm: sequence.calm })));
  return problems;
}

describe('random sequences', () => {
  it(
    `M3–M15 hold in ${COUNT} sequences from seed ${FIRST_SEED}`,
    async () => {
      const seeds = Array.from({ length: COUNT }, (_, index) => FIRST_SEED + index);
      const failures: string[] = [];
      const work = async (host: RandomHost, index: number): Promise<void> => {
        for (const seed of seeds.filter((one) => one % hosts.length === index)) {
          if (failures.length >= ENOUGH_FAILURES) return;
          const problems = await run(host, seed);
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
