/**
 * M20: random sequences with concurrent callers, strangers and faults, each judged by the simulator's record and the
 * server's histories for all of M3–M15.
 */
import { judgeHost } from '../judge/judge.js';
import { busyness, exampleKeepsItsTime } from '../judge/limits.js';
import { settle } from '../judge/settled.js';
import { testRandomSequences } from './randomSequences.js';
import { describeSequence, sequenceOf } from './sequences/actions.js';
import { RandomHost } from './sequences/host.js';

/** Memory that settled without coming back counts as foreign after 30 s; until then its GPU is in quarantine. */
const QUARANTINE_MS = 45_000;

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
const MB: Record<string, number> = {
  'qwen3-vl:8b': 10_752,
  'llava:7b': 6_400,
  'qwen2.5:14b': 11_800,
  'qwen2.5:3b': 2_700,
  'moondream:latest': 2_200,
};

testRandomSequences({
  title: 'random sequences',
  laws: 'M3–M15',
  profiles: [
    { preset: 'rtx4090', ...models, idleSeconds: 300 },
    { preset: 'rtx4090', ...models, idleSeconds: 2 },
    { preset: 'laptop-6gb', vlm: 'qwen2.5:3b', others: ['moondream:latest', 'qwen3-vl:8b'], idleSeconds: 300 },
  ],
  async host({ preset, vlm, others, idleSeconds }, start) {
    const names = [vlm, ...others];
    const config = {
      ...bounds,
      vlm_model: vlm,
      idle_timeout_seconds: idleSeconds,
      models: Object.fromEntries(names.map((name) => [name, { vram_mb: MB[name] }])),
      // An empty phase frees everything in one operation: a sequence begins with it.
      phases: { none: [] },
    };
    return new RandomHost(await start({ preset, config }), names);
  },
  async play(host, seed) {
    const { system } = host;
    const sequence = sequenceOf(seed);
    await host.reset();
    const startedMs = performance.now();
    const trace = await host.play(sequence);
    const unsettled = await settle(system, QUARANTINE_MS, trace.firstJournal);
    const tookMs = Math.round(performance.now() - startedMs);
    return [...unsettled, ...exampleKeepsItsTime(tookMs, busyness()), ...(await judgeHost(system, trace, sequence))];
  },
  describe: (seed) => describeSequence(sequenceOf(seed)),
  stop: (system) => system.stop(),
});
