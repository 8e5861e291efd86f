/** Signals, and what workflows publish of themselves: their names and payloads. The workflows define them from these names. */
import type { Epochs, Intents, OperationRef, TurnRequest } from './operation.js';
import type { HostObservation } from './residency.js';

export const SIGNAL = {
  /** To `gpuHost`. */
  requestTurn: 'requestTurn',
  releaseTurn: 'releaseTurn',
  refuseEpoch: 'refuseEpoch',
  switchMode: 'switchMode',
  agentOnline: 'agentOnline',
  leaseWaits: 'leaseWaits',
  leaseLeaves: 'leaseLeaves',
  edge: 'edge',
  announceAgent: 'announceAgent',
  /** To an operation. */
  turnGranted: 'turnGranted',
  superseded: 'superseded',
  successorWaiting: 'successorWaiting',
  /** To `idleUnload`: the model is gone or was used through an operation; look again. */
  lookAgain: 'lookAgain',
  /** To `lease`. */
  releaseLease: 'releaseLease',
  renewLease: 'renewLease',
  leasePosition: 'leasePosition',
  leaseRevoked: 'leaseRevoked',
} as const;

/**
 * The field of the memo in which `gpuHost` and `lease` publish their state. Not by a query: with this SDK one that meets a
 * cold worker while an event is pending makes a history that cannot be replayed (docs/architecture.md).
 */
export const STATE_MEMO = 'state';
/** The field of the memo in which a new chain of `gpuHost` is handed the intents of the one before it. */
export const EARLIER_INTENTS_MEMO = 'earlierIntents';
/** A server refuses a memo of 40 KB: of a longer line the first ones are published. */
export const PUBLISHED_QUEUE = 20;

/** A lease that waits for room, as its host knows it. */
export interface WaitingLease {
  id: string;
  priority: number;
}

/** Asks the host for a mode: the `switchMode` signal, the way in for programs that do not wait. */
export interface SwitchMode {
  mode: string;
  /** Names the request; the same id twice is one request. Without it each signal is one. */
  request?: string;
  requestedBy?: string;
}

/** Something on the host changed that may call for an operation. Agents send few of these (law 9). */
export interface Edge {
  kind:
    | 'vram-changed'
    | 'foreign-process'
    | 'gpu-lost'
    | 'gpu-back'
    | 'driver-away'
    | 'driver-back'
    | 'tenant-appeared'
    | 'tenant-left'
    | 'tenant-died';
  /** The tenant, device or driver it is about. */
  subject: string;
  details: string;
  /** Of memory: false when it only grew. Absent in what earlier agents send: it may have fallen. */
  fell?: boolean;
  observation: HostObservation;
}

/** Registration of an agent; refused while another one answers for the host. */
export interface AgentRegistration {
  /** Of this start of the agent. */
  instance: string;
  /** Machine and data folder. Whoever holds that folder's lock has proven that its predecessor is gone. */
  lockDomain: string;
}

export interface RefusedAgent {
  instance: string;
  reason: string;
}

/** As `gpuHost` publishes it. */
export interface HostState {
  host: string;
  agent: AgentRegistration | null;
  /** The last one that announced itself while another answered for the host. */
  refusedAgent: RefusedAgent | null;
  intents: Intents;
  turns: TurnState[];
  /** The leases that wait for room, the next one first. */
  leases: WaitingLease[];
  queue: TurnRequest[];
  epochs: Epochs;
}

export interface TurnState {
  operation: OperationRef;
  goal: TurnRequest['goal'];
  requestedBy: string;
  devices: string[];
  epochs: Epochs;
  /** ISO times in workflow time. */
  grantedAt: string;
  deadline: string;
}
