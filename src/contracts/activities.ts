/** The activities, as workflows see them. `activities/` implements them as closures. */

import type { Reservation } from './lease.js';
import type { AgentRegistration } from './messages.js';
import type {
  AgentView,
  Epochs,
  OperationGoal,
  OperationOutcome,
  OperationRef,
  StepOutcome,
  TurnRequest,
} from './operation.js';
import type { PlanResult, PlanStep } from './plan.js';

/** The fencing token that each effect carries. */
export interface FencedCall {
  operation: OperationRef;
  epochs: Epochs;
}

export interface StepCall extends FencedCall {
  step: PlanStep;
  /** Counts observe → plan → steps rounds; with the step's id it names the attempt that a repeat joins. */
  round: number;
  /** What the operation is for. */
  goal: OperationGoal;
}

export interface Conclusion extends FencedCall {
  goal: OperationGoal;
  requestedBy: string;
  outcome: OperationOutcome;
  /** The first plan, for `why`; later rounds plan what is left of it. Null: nothing was planned. */
  plan: PlanResult | null;
  /** The mode and the phase to remember; null when they do not change. */
  mode: string | null;
  phase: string | null;
}

/** On the host's own queue, beside the hardware. */
export interface AgentActivities {
  /** The barrier: ends older effects on these devices, then reads. Stale epochs are refused. */
  observe(call: FencedCall): Promise<AgentView>;
  /** Reads without a turn; changes nothing. */
  describeAgent(): Promise<AgentView>;
  unloadTenant(call: StepCall): Promise<StepOutcome>;
  loadTenant(call: StepCall): Promise<StepOutcome>;
  moveEmbedder(call: StepCall): Promise<StepOutcome>;
  /** A lease gets its reservation, or keeps it. */
  grantReservation(call: StepCall): Promise<StepOutcome>;
  /** Makes room: asks the holder to give it back, waits for the grace, and ends it. */
  endReservation(call: StepCall): Promise<StepOutcome>;
  /** What a holder gives back is free at once: that needs no turn. */
  releaseReservation(lease: string, reason: string): Promise<void>;
  /** The reservation of a lease as the agent has it; null: none. */
  readReservation(lease: string): Promise<Reservation | null>;
  /** @returns the reservation with its new end; null: it is gone */
  renewReservation(lease: string, ttlSeconds: number): Promise<Reservation | null>;
  startService(call: StepCall): Promise<StepOutcome>;
  stopService(call: StepCall): Promise<StepOutcome>;
  /** Milliseconds until the model may count as idle: 0 when it is, null when it is not resident. */
  idleRemaining(tenant: string): Promise<number | null>;
  /** Under a turn: closes the gate if the model is idle still, else answers the milliseconds that remain. */
  closeIfIdle(call: FencedCall & { tenant: string }): Promise<{ closed: boolean; remainingMs: number | null }>;
  /** Writes the outcome to the journal, opens gates, ends the fence of this operation. Idempotent. */
  conclude(call: Conclusion): Promise<void>;
  /** The host found that this operation was terminated: ends what it still does, opens what it closed. Idempotent. */
  abandonOperation(operation: OperationRef): Promise<void>;
}

export type HolderStatus = 'running' | 'closed' | 'not-found';

/** On the control queue. */
export interface ControlActivities {
  /** Requests a turn by signal-with-start: the way when the host's workflow does not run. */
  requestTurnOfNewHost(host: string, request: TurnRequest): Promise<void>;
  /** Starts the idle timer of a resident model, or tells the running one to look again; atomic. */
  ensureIdleTimer(host: string, tenant: string): Promise<void>;
  /** Looks at the run that holds a turn. */
  describeHolder(holder: OperationRef): Promise<HolderStatus>;
  /** Terminates a run that outlived its deadline. */
  terminateHolder(holder: OperationRef, reason: string): Promise<void>;
}

/** Answered by the registered agent while it polls: proves that it is alive. */
export interface IdentityActivities {
  identifyAgent(): Promise<AgentRegistration>;
}
