/** The GPUs that a reader has seen: one that stops being read stays in the sample, as unknown or lost. */
import { type Diagnosis, normalBusId } from './diagnoseNvidiaSmi.js';
import type { GpuRow, ListedGpu } from './parseNvidiaSmi.js';
import type { GpuReading } from './reader.js';

export interface KnownGpus {
  list(gpus: ListedGpu[]): void;
  uuids(): string[];
  /** Notes the driver's word that a GPU is gone; true when it is one of the known. */
  lose(diagnosis: Diagnosis): boolean;
  /** A reading for a line that cannot be read whole; null for a GPU never seen. */
  unreadable(uuid: string, problem: string): GpuRow | null;
  /** All known GPUs: as in the block, else lost or unknown for this reason. In index order. */
  complete(block: GpuRow[], missingBecause: string): GpuReading[];
}

interface Known extends ListedGpu {
  /** In the normal form. */
  busId: string | null;
  totalMb: number | null;
  lost: string | null;
}

export function createKnownGpus(): KnownGpus {
  const known = new Map<string, Known>();

  const blank = (gpu: Known, problem: string): GpuReading => ({
    uuid: gpu.uuid,
    index: gpu.index,
    name: gpu.name,
    totalMb: gpu.totalMb,
    usedMb: null,
    freeMb: null,
    utilizationPercent: null,
    temperatureC: null,
    health: gpu.lost === null ? 'unknown' : 'lost',
    problem: gpu.lost ?? problem,
  });

  return {
    list(gpus) {
      for (const gpu of gpus) known.set(gpu.uuid, { ...gpu, busId: null, totalMb: null, lost: null });
    },
    uuids: () => [...known.keys()],
    lose(diagnosis) {
      const busId = diagnosis.busId === null ? null : normalBusId(diagnosis.busId);
      for (const gpu of known.values()) {
        if (busId === null || gpu.busId !== busId) continue;
        gpu.lost = diagnosis.problem;
        return true;
      }
      return false;
    },
    unreadable(uuid, problem) {
      const gpu = known.get(uuid);
      return gpu ? { busId: gpu.busId ?? '', reading: blank({ ...gpu, lost: null }, problem) } : null;
    },
    complete(block, missingBecause) {
      for (const { busId, reading } of block) {
        const { uuid, index } = reading;
        const before = known.get(uuid);
        // A line cut in the name is whole otherwise; a lost GPU shows no address.
        const name = before?.name.startsWith(reading.name) ? before.name : reading.name;
        const totalMb = reading.totalMb ?? before?.totalMb ?? null;
        known.set(uuid, { uuid, index, name, busId: normalBusId(busId) ?? before?.busId ?? null, totalMb, lost: null });
      }
      const read = new Map(
        block.map(({ reading }) => [reading.uuid, { ...reading, name: known.get(reading.uuid)?.name ?? reading.name }]),
      );
      return [...known.values()]
        .map((gpu) => read.get(gpu.uuid) ?? blank(gpu, missingBecause))
        .sort((a, b) => a.index - b.index);
    },
  };
}
