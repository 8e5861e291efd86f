/** P9: GPUs that nobody can read, with the totals that the configuration declares. What is used stays unknown. */
import type { GpuReader } from './reader.js';
import { createTickingReader } from './ticking.js';

export interface DeclaredGpu {
  /** Any name that lasts; a real UUID where it is known, because programs are bound by it. */
  uuid: string;
  name: string;
  /** MB, as declared. */
  totalMb: number;
}

const PROBLEM =
  'The reader is off and the totals are declared, so what is used is unknown. Set the reader to auto for measured figures.';

export const createDeclaredReader = (options: { clock: { now(): number }; gpus: DeclaredGpu[] }): GpuReader =>
  createTickingReader('declared', options.clock, {
    gpus: options.gpus.map((gpu, index) => ({
      ...gpu,
      index,
      usedMb: null,
      freeMb: null,
      utilizationPercent: null,
      temperatureC: null,
      health: 'unknown',
      problem: PROBLEM,
    })),
    problem: PROBLEM,
  });
