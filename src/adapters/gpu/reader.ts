/**
 * What a GPU reader gives. MB means MiB, temperatures are °C, times are ms on the injected monotonic clock.
 * `null` means unknown, and unknown never counts as free, idle or cool (law 1).
 */

/** One GPU in one sample. */
export interface GpuReading {
  /** The only name of a GPU that lasts; the index changes between boots. */
  uuid: string;
  index: number;
  name: string;
  totalMb: number | null;
  usedMb: number | null;
  /** As the driver says: total − used − what it keeps for itself (`memory.reserved`). */
  freeMb: number | null;
  utilizationPercent: number | null;
  temperatureC: number | null;
  /** `ok`: the memory figures can be used. `lost`: the driver says that the GPU is gone. */
  health: 'ok' | 'unknown' | 'lost';
  /** What is odd and what to do about it, in words. With health `ok`: a lesser figure cannot be read. */
  problem: string | null;
}

/** A compute process on a GPU; graphics processes are in no list that nvidia-smi gives as a stream. */
export interface GpuProcess {
  uuid: string;
  pid: number;
  name: string;
  usedMb: number | null;
  /** The first argument it was started with (`''`: none) and the name of its parent, where that can be seen. */
  descent?: { verb: string; parent: string };
  /** It lives no more, and is listed all the same: for a moment, or for as long as a child of it has the GPU open. */
  ended?: true;
}

/** What the driver says of it; the rest this machine knows. */
export type ListedProcess = Omit<GpuProcess, 'descent' | 'ended'>;

export interface GpuSample {
  /**
   * When the reader received the figures. The driver read them shortly before; a memory drop may therefore
   * look later than it was, never earlier.
   */
  takenAt: number;
  gpus: GpuReading[];
  /** Null: the list cannot be had. Empty: proven that no compute process runs. */
  processes: GpuProcess[] | null;
  /** Of the reader as a whole: driver mismatch, hang, program missing. With its remedy. */
  problem: string | null;
}

export interface GpuReader {
  readonly kind: 'nvidia-smi' | 'none' | 'declared';
  /**
   * Starts reading; calls back with every sample and every change of the problem. Resolves after the first
   * sample; a reader that fails gives samples with a problem, it does not reject.
   */
  start(onSample: (sample: GpuSample) => void): Promise<void>;
  /** Changes the time between samples, ms, without a gap. Also before `start`. Default 1000. */
  setPeriod(ms: number): void;
  /** Ends all that the reader started; bounded by a few seconds. */
  stop(): Promise<void>;
}
