import type { StateFile } from './stateFile.js';

/** What loads have shown, by tenant. MB as MiB. */
export interface Footprint {
  /** On GPUs once loaded. */
  chargeMb: number;
  /** At the most while it loaded. */
  peakMb: number;
  /** A moving mean of load times. */
  loadMs: number;
}

/** How much a new load time moves the mean. */
const WEIGHT = 0.5;

/** Footprints and load times as measured; Ollama and CLIP allocate all at load, so the last measurement counts. */
export class Learned {
  private footprints: Record<string, Footprint>;
  private writeProblem: string | null = null;

  constructor(private readonly file: StateFile<Record<string, Footprint>>) {
    this.footprints = file.get();
  }

  get(tenant: string): Footprint | null {
    return this.footprints[tenant] ?? null;
  }

  record(tenant: string, measured: Footprint): void {
    const known = this.get(tenant);
    const loadMs = known ? Math.round(known.loadMs * (1 - WEIGHT) + measured.loadMs * WEIGHT) : measured.loadMs;
    this.footprints = { ...this.footprints, [tenant]: { ...measured, loadMs } };
    try {
      this.file.set(this.footprints);
      this.writeProblem = null;
    } catch (error) {
      this.writeProblem = `footprints cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Why they are not on disk, or null; they are written again with the next one. */
  problem(): string | null {
    return this.writeProblem;
  }
}
