/** The agent's ring of GPU samples: the latest reading, proofs, history and edges come from it (law 9). */
import type { GpuReader, GpuReading, GpuSample } from '../adapters/gpu/reader.js';
import { findEdges, type GpuEdge, noEdgesYet } from '../domain/gpuEdges.js';

export type { GpuEdge } from '../domain/gpuEdges.js';

export interface Sampler {
  /** Stale: the figures are withheld, every GPU's health is `unknown` (law 1). Before the first sample too. */
  latest(): GpuSample & { ageMs: number; stale: boolean };
  /**
   * The first sample taken after `afterMs` on the clock.
   * Rejects with the signal's reason on abort and with `NoSampleError` when `boundMs` passes.
   */
  sampleAfter(afterMs: number, options: { signal: AbortSignal; boundMs: number }): Promise<GpuSample>;
  /** Samples every ≤ 100 ms until the returned function is called (law 2). Nests. */
  dense(): () => void;
  /** The ring of one GPU, oldest first. */
  history(uuid: string): GpuSample[];
  onEdge(listener: (edge: GpuEdge) => void): () => void;
  onSample(listener: (sample: GpuSample) => void): () => void;
  stop(): Promise<void>;
}

/** No sample came in time. */
export class NoSampleError extends Error {
  override readonly name = 'NoSampleError';
}

export interface SamplerOptions {
  reader: GpuReader;
  /** Monotonic, ms; the one that the reader uses. */
  clock: { now(): number };
  /** M15: 1000 ms. */
  periodMs: number;
  /** Law 2: 100 ms. */
  densePeriodMs: number;
  /** M15: 100 MB. */
  thresholdMb: number;
  /** Whether a process belongs to one of vramflow's tenants. */
  isOurs: (pid: number) => boolean;
  /** Whether a tenant is being started, which has processes that are not known yet. */
  isStarting?: () => boolean;
  /** Whether one that was of a tenant is nobody's now though it lives. */
  isLeftBehind?: (pid: number) => boolean;
  /** Samples kept. */
  ringSize: number;
}

/** Samples of one period come a little early or late. */
const SAME_PERIOD = 0.9;
/** A new period starts the reader's program anew, which takes its time: the next step of a plan finds it dense still. */
const LINGER_MS = 2_000;
/** A sample older than this, or than five periods, is stale. */
const STALE_MS = 5_000;

/** All that cannot be had counts as used: newer drivers keep some memory for themselves without calling it used. */
function withReserved(gpu: GpuReading): GpuReading {
  const { totalMb, usedMb, freeMb } = gpu;
  if (usedMb === null || totalMb === null || freeMb === null) return gpu;
  return { ...gpu, usedMb: Math.max(usedMb, totalMb - freeMb) };
}

export function createSampler(options: SamplerOptions): Sampler {
  const {
    reader,
    clock,
    periodMs,
    densePeriodMs,
    thresholdMb,
    isOurs,
    isStarting = () => false,
    isLeftBehind = () => false,
    ringSize,
  } = options;
  const staleMs = Math.max(STALE_MS, 5 * periodMs);
  const ring: GpuSample[] = [];
  const edgeListeners = new Set<(edge: GpuEdge) => void>();
  const sampleListeners = new Set<(sample: GpuSample) => void>();
  let latest: GpuSample = { takenAt: clock.now(), gpus: [], processes: null, problem: 'No GPU sample was taken yet.' };
  let edges = noEdgesYet;
  let edgesLookedAt = Number.NEGATIVE_INFINITY;
  let denseUsers = 0;
  let isDense = false;
  let lingering: NodeJS.Timeout | undefined;

  const take = (read: GpuSample): void => {
    const sample = { ...read, gpus: read.gpus.map(withReserved) };
    latest = sample;
    ring.push(sample);
    if (ring.length > ringSize) ring.shift();
    for (const listener of sampleListeners) listener(sample);
    // M15: changes are looked for once a period, also while samples come more often for a proof.
    if (sample.takenAt - edgesLookedAt < periodMs * SAME_PERIOD) return;
    edgesLookedAt = sample.takenAt;
    const found = findEdges(edges, sample, { thresholdMb, isOurs, isStarting, isLeftBehind });
    edges = found.state;
    for (const edge of found.edges) for (const listener of edgeListeners) listener(edge);
  };

  const subscribe = <Listener>(listeners: Set<Listener>, listener: Listener): (() => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  };

  reader.setPeriod(periodMs);
  reader.start(take).catch((error: unknown) => {
    take({ ...withheld(latest, `The GPU reader does not start: ${String(error)}`), takenAt: clock.now() });
  });

  return {
    latest() {
      const ageMs = clock.now() - latest.takenAt;
      const stale = ring.length === 0 || ageMs > staleMs;
      const sample = stale && ring.length > 0 ? withheld(latest, staleWords(latest, ageMs)) : latest;
      return { ...sample, ageMs, stale };
    },
    sampleAfter(afterMs, { signal, boundMs }) {
      if (ring.length > 0 && latest.takenAt > afterMs) return Promise.resolve(latest);
      return new Promise((resolve, reject) => {
        const settle = (finish: () => void): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', onAbort);
          unsubscribe();
          finish();
        };
        const onAbort = (): void => settle(() => reject(signal.reason));
        const unsubscribe = subscribe(sampleListeners, (sample) => {
          if (sample.takenAt > afterMs) settle(() => resolve(sample));
        });
        const timer = setTimeout(
          () =>
            settle(() =>
              reject(new NoSampleError(`No GPU sample within ${boundMs} ms. ${latest.problem ?? ''}`.trim())),
            ),
          boundMs,
        );
        signal.addEventListener('abort', onAbort);
        if (signal.aborted) onAbort();
      });
    },
    dense() {
      denseUsers += 1;
      clearTimeout(lingering);
      if (!isDense) reader.setPeriod(densePeriodMs);
      isDense = true;
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        denseUsers -= 1;
        if (denseUsers > 0) return;
        lingering = setTimeout(() => {
          isDense = false;
          reader.setPeriod(periodMs);
        }, LINGER_MS);
      };
    },
    history: (uuid) => ring.filter(({ gpus }) => gpus.some((gpu) => gpu.uuid === uuid)),
    onEdge: (listener) => subscribe(edgeListeners, listener),
    onSample: (listener) => subscribe(sampleListeners, listener),
    stop() {
      clearTimeout(lingering);
      return reader.stop();
    },
  };
}

const staleWords = (sample: GpuSample, ageMs: number): string =>
  sample.problem ?? `The last GPU sample is ${Math.round(ageMs / 1_000)} s old: the reader does not answer.`;

/** The sample without its figures: what stays are the GPUs' names and totals. */
function withheld(sample: GpuSample, problem: string): GpuSample {
  const gpus = sample.gpus.map(
    (gpu): GpuReading => ({
      ...gpu,
      usedMb: null,
      freeMb: null,
      utilizationPercent: null,
      temperatureC: null,
      health: gpu.health === 'lost' ? 'lost' : 'unknown',
      problem: gpu.problem ?? problem,
    }),
  );
  return { ...sample, gpus, processes: null, problem };
}
