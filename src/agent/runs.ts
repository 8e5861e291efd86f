import type { StateFile } from './stateFile.js';

/** What is remembered of one run of a service. */
export interface Run {
  /** As its driver names it. */
  run: string;
  /** The GPUs that it was started on; null: not by an agent of ours. */
  gpus: string[] | null;
  /** It has been ready. Absent in what earlier versions wrote. */
  wasReady?: boolean;
}

/** What a successor of this agent cannot see of the runs that it adopts, by service; also on disk. */
export class Runs {
  private runs: Record<string, Run>;
  private writeProblem: string | null = null;

  constructor(private readonly file: StateFile<Record<string, Run>>) {
    this.runs = file.get();
  }

  /** Null when nothing is known of this run. */
  of(service: string, run: string | null): Run | null {
    const known = this.runs[service];
    return known?.run === run ? known : null;
  }

  started(service: string, run: string, gpus: string[]): void {
    this.write(service, { ...this.of(service, run), run, gpus });
  }

  ready(service: string, run: string): void {
    const known = this.of(service, run) ?? { run, gpus: null };
    if (known.wasReady !== true) this.write(service, { ...known, wasReady: true });
  }

  /** Why they are not on disk, or null; they are written again with the next one. */
  problem(): string | null {
    return this.writeProblem;
  }

  private write(service: string, run: Run): void {
    this.runs = { ...this.runs, [service]: run };
    try {
      this.file.set(this.runs);
      this.writeProblem = null;
    } catch (error) {
      // A full disk must not hold a start up.
      this.writeProblem = `runs of services cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
}
