import type { GpuSample } from '../adapters/gpu/reader.js';

/** Used MB by GPU; null where there is no reading. */
export const usedMbOf = (sample: GpuSample): Record<string, number | null> =>
  Object.fromEntries(sample.gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));

/** Free MB over some GPUs together; null if any of them is unknown. */
export function freeMbOf(sample: GpuSample, gpus: string[]): number | null {
  let free = 0;
  for (const uuid of gpus) {
    const gpu = sample.gpus.find((one) => one.uuid === uuid);
    if (gpu?.totalMb == null || gpu.usedMb === null) return null;
    free += gpu.totalMb - gpu.usedMb;
  }
  return free;
}
