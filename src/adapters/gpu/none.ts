/** M17: a host without a GPU. Its samples are empty; the problem says why there is no GPU. */
import type { GpuReader } from './reader.js';
import { createTickingReader } from './ticking.js';

/** `reason` goes into each sample and into the one warning at start. */
export const createNoGpuReader = (options: { clock: { now(): number }; reason: string }): GpuReader =>
  createTickingReader('none', options.clock, { gpus: [], problem: options.reason });
