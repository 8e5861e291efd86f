import type { GpuReading, GpuSample } from '../adapters/gpu/reader.js';
import { pause } from '../adapters/processes/pause.js';
import type { Agent } from '../agent/agent.js';

const LOOK_EVERY_MS = 100;
/** The reader asks at most once a second whether the list is empty, and the answer takes its time. */
export const LIST_WAIT_MS = 2_000;

/** Used MB by GPU; null where there is no reading. */
export const usedMbOf = (sample: GpuSample): Record<string, number | null> =>
  Object.fromEntries(sample.gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));

/** Free MB over some GPUs together; null if any of them is unknown. */
export function freeMbOf(sample: GpuSample, gpus: string[]): number | null {
  const readings = gpus.map((uuid) => sample.gpus.find((gpu): gpu is GpuReading => gpu.uuid === uuid)?.freeMb ?? null);
  const known = readings.filter((mb) => mb !== null);
  return known.length === readings.length ? known.reduce((sum, mb) => sum + mb, 0) : null;
}

/** Used MB by GPU in the latest sample; empty where there is no reading. */
export const measuredUse = (agent: Agent): Record<string, number | null> =>
  agent.options.readerKind === 'nvidia-smi' ? usedMbOf(agent.sampler.latest()) : {};

/** Used MB by GPU in a sample taken from now on; empty where there is no reading. */
export async function sampleNow(agent: Agent, signal: AbortSignal): Promise<Record<string, number | null>> {
  if (agent.options.readerKind !== 'nvidia-smi') return {};
  return usedMbOf(await agent.sampler.sampleAfter(agent.now(), { signal, boundMs: 5_000 }));
}

/**
 * The picture that a proof goes by. When the last process has crashed, its list is not known until a query has shown that
 * it is empty; without it nobody can tell such a tenant from one whose memory is stuck (pain 3).
 */
export async function listedSample(agent: Agent, signal: AbortSignal, waitMs = LIST_WAIT_MS): Promise<GpuSample> {
  const until = agent.now() + waitMs;
  const { gpus } = agent.sampler.latest();
  const isEverListed = gpus.some(({ uuid }) => agent.sampler.history(uuid).some(({ processes }) => processes !== null));
  if (!isEverListed) return agent.sampler.latest();
  while (agent.sampler.latest().processes === null && agent.now() < until) {
    await pause(LOOK_EVERY_MS, signal);
  }
  return agent.sampler.latest();
}
