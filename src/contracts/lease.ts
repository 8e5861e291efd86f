/** Leases: VRAM promised to a program outside, for a time. Durable as a workflow, kept as a reservation by the agent. */
import type { Epochs } from './operation.js';

/** What a program asks for. */
export interface LeaseRequest {
  /** Names the lease: letters, digits, dots and dashes. */
  id: string;
  /** Who asks, for people: `blender on desk 3`. */
  holder: string;
  /** MB of VRAM on each of its GPUs; null: these as a whole, as far as strangers leave them. */
  mb: number | null;
  /** So many GPUs, whichever, or exactly these, by their UUIDs; all of them or none. Absent: one. */
  on?: number | string[];
  /** Higher wins, as of services; default 50. */
  priority: number;
  /** It ends by itself so many seconds after its grant or its last renewal. */
  ttlSeconds: number;
  /** The process that uses it, if it is known: what its tree holds on the GPU is not counted twice. */
  pid: number | null;
}

/**
 * - `queued`: there is no room for it yet
 * - `held`: granted
 * - `revoked`: something of higher priority needs the memory; it is to be given back within the grace
 * - `ended`: released, expired, or revoked and over
 */
export type LeasePhase = 'queued' | 'held' | 'revoked' | 'ended';

export interface LeaseState extends LeaseRequest {
  host: string;
  state: LeasePhase;
  /** 1 for the next in line; null unless queued. */
  position: number | null;
  /** The GPUs that it has. */
  gpus: string[];
  /** Fencing tokens of its GPUs at the grant: they only grow. */
  epochs: Epochs;
  /** ISO; null while it is queued. */
  expiresAt: string | null;
  /** The id of the last renewal that was done. */
  renewal: string | null;
  /** Why it waits, or why it ended. */
  reason: string | null;
  /** What can be done about that; null where there is nothing. */
  remedy: string | null;
}

/** As the agent keeps it on disk. */
export interface Reservation extends LeaseRequest {
  gpus: string[];
  /** On all of its GPUs together. */
  chargeMb: number;
  /** On each; absent in what an earlier version wrote, which is on one. */
  chargesMb?: Record<string, number>;
  grantedAtMs: number;
  /** Epoch ms; whatever happens to its workflow, from a moment after it nobody holds anything for it. */
  expiresAtMs: number;
  /** It is to be given back by then, epoch ms; null: it is not revoked. */
  revokedUntilMs: number | null;
}

/** What may be asked for, whoever asks. */
export const LEASE_LIMITS = {
  id: /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$/,
  mb: { least: 1, most: 1_048_576 },
  gpus: { least: 1, most: 64 },
  priority: { least: 0, most: 100, default: 50 },
  ttlSeconds: { least: 1, most: 604_800, default: 60 },
  pid: { least: 1, most: 2 ** 31 },
} as const;
