/** The signals of contracts/messages, defined once for all workflows. */
import { defineSignal } from '@temporalio/workflow';
import {
  type AgentRegistration,
  type Edge,
  SIGNAL,
  type SwitchMode,
  type WaitingLease,
} from '../contracts/messages.js';
import type { EpochRefusal, OperationRef, TurnGrant, TurnRelease, TurnRequest } from '../contracts/operation.js';

export const requestTurn = defineSignal<[TurnRequest]>(SIGNAL.requestTurn);
export const releaseTurn = defineSignal<[TurnRelease]>(SIGNAL.releaseTurn);
export const refuseEpoch = defineSignal<[EpochRefusal]>(SIGNAL.refuseEpoch);
export const switchMode = defineSignal<[SwitchMode]>(SIGNAL.switchMode);
export const agentOnline = defineSignal(SIGNAL.agentOnline);
export const leaseWaits = defineSignal<[WaitingLease]>(SIGNAL.leaseWaits);
export const leaseLeaves = defineSignal<[{ id: string }]>(SIGNAL.leaseLeaves);
/** The published state tells whether it was taken or refused. */
export const announceAgent = defineSignal<[AgentRegistration]>(SIGNAL.announceAgent);
export const edge = defineSignal<[Edge]>(SIGNAL.edge);

export const turnGranted = defineSignal<[TurnGrant]>(SIGNAL.turnGranted);
export const superseded = defineSignal<[{ by: OperationRef }]>(SIGNAL.superseded);
export const successorWaiting = defineSignal<[{ waits: boolean }]>(SIGNAL.successorWaiting);
export const lookAgain = defineSignal(SIGNAL.lookAgain);

export const releaseLease = defineSignal(SIGNAL.releaseLease);
/** There may be room now; so many are before it, itself counted. */
export const leasePosition = defineSignal<[{ position: number }]>(SIGNAL.leasePosition);
/** Something of higher priority takes its memory; also when it has. */
export const leaseRevoked = defineSignal(SIGNAL.leaseRevoked);
/** The published state names the renewal once it is done. */
export const renewLease = defineSignal<[{ renewal: string; ttlSeconds: number }]>(SIGNAL.renewLease);
