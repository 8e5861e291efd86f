/** The journal: one bounded log per host, on the agent's disk, with a sequence that only grows. */

/** M15, and what else a reader of the log wants to know. */
export const JOURNAL_TYPES = [
  'vram_changed',
  'model_loaded',
  'model_unloaded',
  'device_changed',
  'service_started',
  'service_stopped',
  'service_failed',
  'service_unhealthy',
  'mode_changed',
  'phase_prepared',
  'lease_granted',
  'lease_revoked',
  'lease_ended',
  'idle_unload',
  'load_failed',
  'unload_failed',
  'operation',
  'agent_started',
  'tenant_left',
  'tenant_appeared',
  'tenant_died',
  'driver_away',
  'driver_back',
  'gpu_lost',
  'gpu_back',
  'foreign_process',
  'footprint_drift',
  'quarantined',
  'quarantine_ended',
  'warning',
] as const;
export type JournalType = (typeof JOURNAL_TYPES)[number];

export interface JournalEntry {
  /** Grows by one; survives restarts. */
  sequence: number;
  /** ISO. */
  time: string;
  type: JournalType;
  /** The tenant, device, mode or driver it is about. */
  subject: string | null;
  /** One sentence for people. */
  message: string;
  /** The workflow that made it, if one did. */
  workflowId: string | null;
  details: Record<string, unknown>;
}
