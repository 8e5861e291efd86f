/** What brings services up and down and says what is there: one driver for Docker, one for native processes (P2). */

/** What a driver sees of one configured service. */
export interface ServiceSight {
  service: string;
  /** `unknown`: the driver cannot be asked. Whether a running service is ready is the health check's word. */
  state: 'absent' | 'running' | 'unknown';
  /** Names one run of it: another run has another name, also under the same pid. Null when absent. */
  run: string | null;
  /**
   * All its processes, in this machine's PID namespace; what they hold on GPUs is the service's. An absent one can have
   * some: what is left of the run that ended, until it is reaped.
   */
  pids: number[];
  /** UUIDs that the run was started with, kept over a restart of the agent; missing where the driver does not know. */
  gpus?: string[];
  /**
   * Of a container that others made, also while it does not run: the GPUs that it may use, by UUID or index; `all` also
   * where nobody knows. It is started with these, whatever a plan says.
   */
  given?: string[] | 'all';
  /** Milliseconds since this run began; null when absent. */
  runningForMs: number | null;
  /** The word of a health check that the driver itself makes, as a HEALTHCHECK of Docker; missing where it makes none. */
  health?: 'starting' | 'healthy' | 'unhealthy';
  /** How the run before ended, as far as it is known. */
  lastExit: ServiceExit | null;
}

export interface ServiceExit {
  /** Null when a signal ended it, or when nobody saw how it ended. */
  code: number | null;
  signal: string | null;
  /** One sentence for people: `exit code 1`, `killed by the kernel: out of memory`. */
  reason: string;
}

/** Something outside an operation began or ended a run. */
export type ServiceChange =
  | { kind: 'started'; service: string }
  | { kind: 'ended'; service: string; exit: ServiceExit }
  /** The driver's own health check of the run says something else than before. */
  | { kind: 'health'; service: string }
  | { kind: 'driver-away'; reason: string }
  | { kind: 'driver-back' };

export interface ServiceDriver {
  readonly id: 'docker' | 'native';
  /** Why the driver cannot be asked, with what to do about it; null when it can. */
  problem(): string | null;
  /** From memory: no I/O. Every service of the configuration that this driver runs, in the configuration's order. */
  sights(): ServiceSight[];
  /** Looks now, and updates what `sights` says. Never rejects for a driver that is away: `problem` says so. */
  look(signal: AbortSignal): Promise<void>;
  /**
   * Makes it run; one that runs already is the answer (law 4). Resolves when the process or container runs, not when it is ready.
   * @param options.gpus UUIDs that it may use; empty: none. A container that others made has its own (`given`).
   * @throws ServiceError; nothing half-started stays
   */
  start(service: string, options: { gpus: string[]; signal: AbortSignal }): Promise<ServiceSight>;
  /**
   * Asks it to end, and kills all of it when the grace has passed (P2: graceful stop first). Safe to repeat.
   * @returns `stopped` when nothing of it lives; `stuck` when it was killed and is still there, or cannot be signalled by proof
   * @throws ServiceError `unavailable` or `not-permitted`: it may still run
   */
  stop(service: string, options: { graceMs: number; signal: AbortSignal }): Promise<'stopped' | 'stuck'>;
  /** The last lines of its output, oldest first, and with `follow` those to come, until the signal aborts. */
  logs(service: string, options: { tail: number; follow: boolean; signal: AbortSignal }): AsyncIterable<string>;
  /** @returns how to stop listening */
  onChange(listener: (change: ServiceChange) => void): () => void;
  /** Stops watching. What runs goes on (law 6). */
  close(): Promise<void>;
}

/** A run of a service that is no longer in the configuration: proven to be ours, and ended. */
export interface Reaped {
  service: string;
  pids: number[];
  result: 'stopped' | 'stuck';
}

/**
 * - `unavailable`: the driver cannot be reached
 * - `missing`: the executable, image or container is not there
 * - `port-taken`: another program has a port that it needs
 * - `not-permitted`: the system forbids it
 * - `failed`: anything else that the driver says
 */
export type ServiceErrorKind = 'unavailable' | 'missing' | 'port-taken' | 'not-permitted' | 'failed';

export class ServiceError extends Error {
  constructor(
    readonly kind: ServiceErrorKind,
    message: string,
    readonly remedy: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
