import { afterEach, describe, expect, it, vi } from 'vitest';
import type { GpuReader, GpuReading, GpuSample } from '../../src/adapters/gpu/reader.js';
import { createSampler, type GpuEdge, NoSampleError, type Sampler } from '../../src/agent/sampler.js';

const gpu = (usedMb: number | null, uuid = 'GPU-a'): GpuReading => ({
  uuid,
  index: 0,
  name: 'Test GPU',
  totalMb: 24_564,
  usedMb,
  freeMb: usedMb === null ? null : 24_564 - usedMb,
  utilizationPercent: 3,
  temperatureC: 40,
  health: usedMb === null ? 'unknown' : 'ok',
  problem: usedMb === null ? 'unreadable' : null,
});

class FakeReader implements GpuReader {
  readonly kind = 'nvidia-smi';
  readonly periods: number[] = [];
  stopped = false;
  #onSample: (sample: GpuSample) => void = () => {};

  async start(onSample: (sample: GpuSample) => void): Promise<void> {
    this.#onSample = onSample;
  }
  setPeriod(ms: number): void {
    this.periods.push(ms);
  }
  async stop(): Promise<void> {
    this.stopped = true;
  }
  say(sample: Partial<GpuSample>): void {
    this.#onSample({ takenAt: 0, gpus: [], processes: [], problem: null, ...sample });
  }
}

function begin(): { reader: FakeReader; clock: { time: number; now(): number }; sampler: Sampler } {
  const reader = new FakeReader();
  const clock = { time: 1_000, now: () => clock.time };
  const sampler = createSampler({
    reader,
    clock,
    periodMs: 1_000,
    densePeriodMs: 100,
    thresholdMb: 100,
    isOurs: (pid) => pid < 100,
    ringSize: 5,
  });
  return { reader, clock, sampler };
}

const never = new AbortController().signal;

afterEach(() => {
  vi.useRealTimers();
});

describe('the sampler', () => {
  it('is stale before the first sample and gives nothing away', () => {
    const { sampler } = begin();
    expect(sampler.latest()).toMatchObject({ gpus: [], processes: null, stale: true, ageMs: 0 });
  });

  it('withholds the figures of a stale sample', () => {
    const { reader, clock, sampler } = begin();
    reader.say({ takenAt: 1_000, gpus: [gpu(500)] });
    clock.time = 5_900;
    expect(sampler.latest()).toMatchObject({ stale: false, ageMs: 4_900, gpus: [{ usedMb: 500 }] });
    clock.time = 6_001;
    const latest = sampler.latest();
    expect(latest).toMatchObject({ stale: true, processes: null, problem: expect.stringContaining('5 s old') });
    expect(latest.gpus[0]).toMatchObject({ usedMb: null, temperatureC: null, totalMb: 24_564, health: 'unknown' });
  });

  it('waits for a sample that was taken after the moment', async () => {
    const { reader, sampler } = begin();
    reader.say({ takenAt: 2_000, gpus: [gpu(1)] });
    const after = sampler.sampleAfter(2_000, { signal: never, boundMs: 5_000 });
    reader.say({ takenAt: 2_000, gpus: [gpu(2)] });
    reader.say({ takenAt: 2_100, gpus: [gpu(3)] });
    expect((await after).gpus[0]?.usedMb).toBe(3);
    expect((await sampler.sampleAfter(2_050, { signal: never, boundMs: 1 })).takenAt).toBe(2_100);
  });

  it('gives up waiting on abort and at its bound', async () => {
    const { sampler } = begin();
    await expect(sampler.sampleAfter(0, { signal: never, boundMs: 10 })).rejects.toThrow(NoSampleError);
    const abort = new AbortController();
    const waiting = sampler.sampleAfter(0, { signal: abort.signal, boundMs: 5_000 });
    abort.abort(new Error('fenced'));
    await expect(waiting).rejects.toThrow('fenced');
    await expect(sampler.sampleAfter(0, { signal: abort.signal, boundMs: 5_000 })).rejects.toThrow('fenced');
  });

  it('samples densely while anyone asks for it, and a moment longer', () => {
    vi.useFakeTimers();
    const { reader, sampler } = begin();
    const first = sampler.dense();
    const second = sampler.dense();
    first();
    first();
    expect(reader.periods).toEqual([1_000, 100]);
    second();
    vi.advanceTimersByTime(1_999);
    // The next step of a plan.
    const third = sampler.dense();
    vi.advanceTimersByTime(5_000);
    expect(reader.periods).toEqual([1_000, 100]);
    third();
    vi.advanceTimersByTime(2_000);
    expect(reader.periods).toEqual([1_000, 100, 1_000]);
  });

  it('keeps the last samples of each GPU, oldest first', () => {
    const { reader, sampler } = begin();
    for (let at = 1; at <= 7; at += 1) reader.say({ takenAt: at, gpus: at % 2 ? [gpu(at)] : [gpu(at, 'GPU-b')] });
    expect(sampler.history('GPU-a').map(({ takenAt }) => takenAt)).toEqual([3, 5, 7]);
    expect(sampler.history('GPU-c')).toEqual([]);
  });

  it('tells edges and samples until nobody listens', async () => {
    const { reader, sampler } = begin();
    const edges: GpuEdge[] = [];
    const off = sampler.onEdge((edge) => edges.push(edge));
    reader.say({ takenAt: 1_000, gpus: [gpu(500)], processes: [] });
    reader.say({
      takenAt: 2_000,
      gpus: [gpu(560)],
      processes: [{ uuid: 'GPU-a', pid: 200, name: 'game', usedMb: 60 }],
    });
    reader.say({
      takenAt: 3_000,
      gpus: [gpu(560)],
      processes: [{ uuid: 'GPU-a', pid: 200, name: 'game', usedMb: 60 }],
    });
    reader.say({
      takenAt: 4_000,
      gpus: [gpu(600)],
      processes: [{ uuid: 'GPU-a', pid: 5, name: 'runner', usedMb: 60 }],
    });
    expect(edges).toEqual([
      { kind: 'foreign-process', uuid: 'GPU-a', pid: 200, name: 'game', came: true, usedMb: 60 },
      { kind: 'vram-changed', uuid: 'GPU-a', fromMb: 500, toMb: 600 },
      { kind: 'foreign-process', uuid: 'GPU-a', pid: 200, name: 'game', came: false, usedMb: 60 },
    ]);
    off();
    reader.say({ takenAt: 5_000, gpus: [gpu(9_000)] });
    expect(edges).toHaveLength(3);
    await sampler.stop();
    expect(reader.stopped).toBe(true);
  });

  it('looks for edges once a period, however dense the samples are', () => {
    const { reader, sampler } = begin();
    const edges: GpuEdge[] = [];
    sampler.onEdge((edge) => edges.push(edge));
    for (let at = 0; at <= 2_000; at += 100) reader.say({ takenAt: at, gpus: [gpu(500 + at)] });
    expect(edges).toEqual([
      { kind: 'vram-changed', uuid: 'GPU-a', fromMb: 500, toMb: 1_400 },
      { kind: 'vram-changed', uuid: 'GPU-a', fromMb: 1_400, toMb: 2_300 },
    ]);
  });

  it('shows why a reader does not start', async () => {
    const reader = new FakeReader();
    reader.start = () => Promise.reject(new Error('no such thing'));
    const options = { reader, clock: { now: () => 0 }, periodMs: 1_000, densePeriodMs: 100, thresholdMb: 100 };
    const sampler = createSampler({ ...options, isOurs: () => false, ringSize: 5 });
    const shown = await sampler.sampleAfter(-1, { signal: never, boundMs: 1_000 });
    expect(shown.problem).toContain('no such thing');
  });
});
