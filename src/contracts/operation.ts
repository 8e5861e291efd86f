/** An operation: one workflow that carries out one plan under a turn; and the messages between it and its host. */

import type { LeaseRequest } from './lease.js';
import type { ServiceVerb } from './names.js';
import type { PlanResult, Refusal } from './plan.js';
import type { HostPolicy } from './policy.js';
import type { HostObservation } from './residency.js';

/** What an operation is asked to do. */
export type OperationGoal =
  | { kind: 'mode'; mode: string }
  | { kind: 'model'; tenant: string; verb: 'load' | 'unload'; demand: boolean }
  | { kind: 'phase'; phase: string }
  | { kind: 'service'; tenant: string; verb: ServiceVerb }
  | { kind: 'lease'; tenant: string; request: LeaseRequest }
  | { kind: 'embedder'; device: 'cpu' | 'cuda' }
  | { kind: 'idle-unload'; tenant: string }
  | { kind: 'reconcile'; reason: string };

/** Who asks: `cli`, `switchMode signal`, `on-demand request`, `idle timer`, `host`. */
export type Requester = string;

export interface OperationInput {
  host: string;
  goal: OperationGoal;
  requestedBy: Requester;
  /** Higher first; default 50. */
  priority: number;
}

/** The identity of an operation's run; all turn messages carry it, which makes them idempotent. */
export interface OperationRef {
  workflowId: string;
  runId: string;
}

/** Epochs by device, each a number that only grows (fencing token). */
export type Epochs = Record<string, number>;

export interface TurnRequest {
  operation: OperationRef;
  /** The devices that it may change; `all` until it has planned, where the driver places by itself. */
  devices: 'all' | string[];
  goal: OperationGoal;
  requestedBy: Requester;
  priority: number;
  /** When the operation was started, epoch ms on the server's clock: which of two mode switches is the newer one (M11). */
  startedAtMs?: number;
}

export interface TurnGrant {
  /** The run that this grant is for. */
  runId: string;
  epochs: Epochs;
  /** What the host wants at this moment; the operation resolves its target from it. */
  intents: Intents;
}

export interface TurnRelease {
  operation: OperationRef;
  goal: OperationGoal;
  outcome: OperationOutcome;
}

/** The agent refused an epoch: the host raises its own above these and grants anew. */
export interface EpochRefusal {
  operation: OperationRef;
  highest: Epochs;
}

/** What the host wants, apart from the request at hand. */
export interface Intents {
  /** The mode reached last (M1); `idle` at first. */
  mode: string;
  /** The phase prepared last (P3), by its name; null before the first. */
  phase: string | null;
  /** A move asked for by hand holds until the next mode switch. */
  embedderByHand: 'cpu' | 'cuda' | null;
  /** Models and services that are resident because someone wanted them; what died of these is restored. */
  wanted: string[];
  /** What is wanted and an on-demand load or a lease pushed out, and by whom; restored when that one ends. */
  displaced: { tenant: string; by: string }[];
  /** Why the host runs degraded (M16), or null. */
  degradedReason: string | null;
}

export type OutcomeStatus = 'done' | 'refused' | 'superseded' | 'cancelled' | 'failed';

/** Memory before and after a step, as samples showed it (M6). */
export interface Proof {
  /** By GPU; null where there was no reading. */
  beforeMb: Record<string, number | null>;
  afterMb: Record<string, number | null>;
  /** From the API's word until a sample showed it. */
  reclaimMs: number | null;
  /** What proved it: `process gone and memory back`, `probe answered, size_vram = size`. */
  by: string;
}

export interface StepOutcome {
  step: string;
  kind: 'unload' | 'load' | 'move';
  tenant: string;
  /** Whole milliseconds of the attempt that succeeded. */
  ms: number;
  attempts: number;
  proof: Proof;
  /** False when it was true already. */
  acted: boolean;
}

export interface OperationOutcome {
  status: OutcomeStatus;
  goal: OperationGoal;
  /** The sentence a person reads: what was done and why, or why not. */
  summary: string;
  steps: StepOutcome[];
  /** Stable failure type when `failed` or `refused`. */
  failure: { type: string; message: string; remedy: string | null } | null;
  /** Whose step failed for good. */
  failedTenant: string | null;
  refusal: Refusal | null;
  /** The workflow that superseded this one. */
  supersededBy: string | null;
  /** What was put back after a failure: `restored model/…`, or why it was not. */
  compensation: string | null;
  /** What the operation pushed out to make room. */
  displaced: string[];
  /** The residency at the end, as observed; null only when the agent could not be asked. */
  residency: Record<string, string[]> | null;
  /** The turn's epochs at the end, by device; empty without a turn. */
  epochs: Epochs;
  totalMs: number;
}

/** What `observe` and `describeAgent` return. */
export interface AgentView {
  observation: HostObservation;
  policy: HostPolicy;
  /** The mode and the phase that the agent has on disk. */
  mode: string;
  phase: string | null;
  /** The highest epochs that the agent has seen, by device. */
  epochs: Epochs;
  /** Of this start of the agent. */
  instance: string;
}

export interface PlanPreview {
  plan: PlanResult;
  observation: HostObservation;
  /** False: the host's workflow could not be asked who wants what, so an operation may plan otherwise. */
  intentsKnown: boolean;
}
