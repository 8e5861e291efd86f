/** What `vramflow status -o json` prints. The first ten fields are M14, always all there. */
import type { DeviceObservation, DriverObservation, TenantObservation, TenantState } from './residency.js';

/** On every answer of the agent of a simulated host (law 7). */
export const SIMULATED_HEADER = 'x-vramflow-simulated';

/** P2's words for the states of a service. */
export const SERVICE_STATES: Record<TenantState, string> = {
  absent: 'stopped',
  loading: 'starting',
  resident: 'ready',
  unhealthy: 'unhealthy',
  unloading: 'stopping',
  error: 'failed',
  unknown: 'unknown',
};

export type VlmState = 'unloaded' | 'loading' | 'loaded' | 'unloading' | 'error';

export interface VramStatus {
  total_mb: number;
  used_mb: number;
  free_mb: number;
  gpu_name: string;
  gpu_utilization_percent: number | null;
}

export interface GpuProcessStatus {
  gpu: string;
  pid: number;
  name: string;
  /** Null where the driver does not tell. */
  used_mb: number | null;
  /**
   * The tenant that it belongs to; `ollama`: its server, or a runner of a model that is not known yet; `left-behind`: a runner whose Ollama has
   * ended without it; or `foreign`.
   */
  owner: string;
}

export interface Status {
  execution_mode: string;
  vlm_state: VlmState;
  vlm_model: string;
  /** Where the embedder is (M10). */
  clip_device: 'cpu' | 'cuda';
  /** Null only while degraded (M14). */
  vram: VramStatus | null;
  idle_timeout_seconds: number | null;
  /** ISO time, or null before the first request. */
  last_vlm_request: string | null;
  degraded_mode: boolean;
  degraded_reason: string | null;
  host: string;
  simulated: boolean;
  /** The phase prepared last (P3), or null. */
  phase: string | null;
  /** Why it is degraded: what of it is not ready; null when all is. */
  phase_problem: string | null;
  /** The operations that hold a turn, as the fence knows them. */
  turns: { workflow_id: string; devices: string[]; for_ms: number }[];
  /** The embedder's part: `ready`, `starting`, `missing`, `failed: …`. */
  clip_part: string;
  gpus: DeviceObservation[];
  tenants: TenantObservation[];
  drivers: DriverObservation[];
  /** Compute processes on GPUs; null: the list cannot be had. */
  processes: GpuProcessStatus[] | null;
  agent: { instance: string; pid: number; uptime_ms: number; version: string };
}
