/**
 * What is where: the observation that an agent makes of its host, and the residency that somebody wants.
 * MB means MiB. `null` means unknown, and unknown never counts as free, idle or cool.
 */
import type { LeaseRequest } from './lease.js';

/** Where a figure comes from; shown wherever the figure is shown. */
export type FigureSource = 'measured' | 'learned' | 'declared' | 'simulated';

export interface DeviceObservation {
  /** The GPU's UUID, or `cpu`. */
  id: string;
  /** The product name, for example `NVIDIA GeForce RTX 4090`. */
  name: string;
  totalMb: number | null;
  usedMb: number | null;
  /** Used by nobody that vramflow manages: desktop, games, other programs. Null while `usedMb` is. */
  foreignMb: number | null;
  utilizationPercent: number | null;
  temperatureC: number | null;
  /** Milliseconds since the sample was taken. */
  sampleAgeMs: number;
  /** `unknown`: no usable reading. `lost`: the driver says that the GPU is gone. */
  health: 'ok' | 'unknown' | 'lost';
  /** Why health is not `ok`, in words a person can act on. */
  problem: string | null;
  /** Why no new work goes to this device, or null. */
  quarantine: string | null;
  /** MB that left a tenant by its API's word but that no sample has proven free yet. */
  reclaimingMb: number;
  source: FigureSource;
}

export type TenantKind = 'model' | 'embedder' | 'service' | 'reservation';
export type DriverId = 'ollama' | 'clip' | 'docker' | 'native' | 'leases';

/**
 * - `absent`: holds nothing; for the embedder: its optional part is not installed
 * - `error`: the last operation failed for good (M19)
 * - `unhealthy`: a service that runs and fails its health checks
 * - `unknown`: its driver cannot be asked
 *
 * Of a service, in P2's words: stopped, starting, ready, stopping, failed, unhealthy.
 */
export type TenantState = 'absent' | 'loading' | 'resident' | 'unloading' | 'unhealthy' | 'error' | 'unknown';

export interface Holding {
  /** A GPU's UUID or `cpu`. */
  device: string;
  mb: number;
  /** Of a reservation: what is kept for it there, whether its holder uses that yet or not. */
  promisedMb?: number;
}

export interface TenantObservation {
  /** `model/<name>`, `service/<name>` or `embedder/clip`. */
  id: string;
  kind: TenantKind;
  driver: DriverId;
  state: TenantState;
  /**
   * It has answered since it came. Ollama lists a model from the beginning of its load, whoever asked for that: until it
   * has answered it may not be there yet.
   */
  proven: boolean;
  /** Where it is now; empty when absent. A model partly in system memory also holds `cpu`. */
  holdings: Holding[];
  /** What it takes on GPUs when it is there: max(observed, declared or learned). */
  chargeMb: number;
  chargeSource: FigureSource;
  /** What it takes on GPUs at the most while it loads; at least `chargeMb`. */
  peakMb: number;
  /** Requests in flight through the gate, and those that it was loaded for and that are about to begin. */
  uses: number;
  /** Milliseconds since the later of the last use and the agent's start; null when not resident. */
  idleForMs: number | null;
  residentForMs: number | null;
  /** What the configuration says that it takes on GPUs, MB; missing for what it does not name. */
  declaredMb?: number;
  /** What it was seen to take: a model or the embedder when it was loaded last, a service at the most. Missing: nothing yet. */
  seenMb?: number;
  /** Expected milliseconds of a load: learned, else declared. */
  loadMs: number;
  /** By device, where loads there were measured. */
  loadMsOn?: Record<string, number>;
  /** Expected milliseconds of an unload, the proof included; missing while none was measured. */
  stopMs?: number;
  pinned: boolean;
  /** Higher wins. */
  priority: number;
  /** The model may run from system memory although a GPU exists. */
  allowCpu: boolean;
  /** True for the models and the embedder of the configuration; false for what someone else loaded. */
  configured: boolean;
  /** The service that it runs in, if that is one of ours: it ends with it, and what it holds counts as its. */
  inside?: string;
  /** Of a reservation: who has it, for people, and what was asked for. */
  lease?: Pick<LeaseRequest, 'holder' | 'mb' | 'on'>;
  /** UUIDs of the GPUs that it was given by others, who do not ask where it is wanted; missing: it goes where it is told. */
  givenGpus?: string[];
  /** Of a service that failed or is unhealthy. */
  trouble?: Trouble;
}

/** What is wrong with a service, and when it is started again by itself if it is wanted (P8): ISO time, or null: now. */
export interface Trouble {
  reason: string;
  nextTryAt: string | null;
}

export interface DriverObservation {
  id: DriverId;
  available: boolean;
  /** Why it is not available. */
  reason: string | null;
  /** What it runs in is a service that is stopped, or on its way: not available, and nothing is wrong. */
  resting?: true;
  /** Not available, and nothing is seen of it: no process on a GPU; where those cannot be listed, no answer so far. */
  unseen?: true;
  /** `chosen`: puts a tenant where it is told. `observed`: places it by itself (Ollama). */
  placement: 'chosen' | 'observed';
  version: string | null;
}

export interface HostObservation {
  host: string;
  /** ISO time on the agent's clock, for people; decisions use ages only. */
  at: string;
  devices: DeviceObservation[];
  tenants: TenantObservation[];
  drivers: DriverObservation[];
  /** True when the figures come from the simulator. */
  simulated: boolean;
}

/**
 * What somebody wants of one tenant.
 * - `gpu`: on a GPU (on the CPU where the host has no GPU at all); `anew`: also when it is there, it is started again
 * - `gpu-if-room`: on a GPU while more than `minFreeMb` would be free without it and none of `notBeside` is
 *   resident or loading; else on the CPU, which is not an error (M5)
 * - `cpu`: in system memory
 * - `absent`: not resident
 */
export type Wish =
  | { place: 'gpu'; anew?: boolean }
  | { place: 'gpu-if-room'; minFreeMb: number; notBeside: string[] }
  | { place: 'cpu'; anew?: boolean }
  | { place: 'absent' };

/** The residency wanted. Tenants without a wish stay as they are unless room is needed. */
export interface Target {
  wishes: Record<string, Wish>;
  /** Who wants it and why, in words: `mode recording`, `on-demand load of llava:7b`. */
  because: string;
  /**
   * The priority with which room may be made: only residents of a lower or equal priority are displaced.
   */
  priority: number;
  /**
   * The one tenant that the request names (`model load`, `clip move`). Where it cannot be had the plan is refused;
   * a mode goes on without it, where the hardware or an optional part for it is not there.
   */
  asked?: string;
}
