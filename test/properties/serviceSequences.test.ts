/**
 * P2–P8: random sequences about services, with concurrent callers, kills, faults and strangers, each judged by the
 * simulator's record and the server's histories.
 */
import { judgeServices } from '../judge/services.js';
import { type Pipeline, settleServices } from '../judge/wantedServices.js';
import { MEDIA, MEDIA_PHASES, servicesOf, stopWithServices } from '../system/mediaPipeline.js';
import { testRandomSequences } from './randomSequences.js';
import { describeSequence, sequenceOf } from './serviceSequences/actions.js';
import { RandomServiceHost } from './serviceSequences/host.js';

/** A service that failed again and again is tried again after a minute at the latest, and then it has to start. */
const SETTLE_MS = 75_000;

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
const profiles: { preset: string; pipeline: Pipeline }[] = [
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

testRandomSequences({
  title: 'random sequences about services',
  laws: 'P2–P8',
  profiles,
  async host({ preset, pipeline }, start) {
    const services = await servicesOf(pipeline.services, { service, health });
    const system = await start({ preset, config: { ...bounds, services, phases: pipeline.phases } });
    return new RandomServiceHost(system, pipeline);
  },
  async play(host, seed) {
    const { system, pipeline } = host;
    await host.reset();
    const trace = await host.play(sequenceOf(seed));
    const problems = await settleServices(system, pipeline, trace.firstJournal, SETTLE_MS);
    const priorities = Object.fromEntries(
      Object.entries(pipeline.services).map(([name, { priority }]) => [name, priority]),
    );
    return [...problems, ...(await judgeServices(system, trace, priorities))];
  },
  describe: (seed) => describeSequence(sequenceOf(seed)),
  stop: stopWithServices,
});
