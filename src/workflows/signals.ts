/** The signals, queries and updates of contracts/messages, defined once for all workflows. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import {
  type AgentRegistration,
  type Edge,
  type HostState,
  QUERY,
  SIGNAL,
  type SwitchMode,
  UPDATE,
} from '../contracts/messages.js';
import type {
  EpochRefusal,
  OperationRef,
  TurnGrant,
  TurnNarrowing,
  TurnRelease,
  TurnRequest,
} from '../contracts/operation.js';

export const requestTurn = defineSignal<[TurnRequest]>(SIGNAL.requestTurn);
export const narrowTurn = defineSignal<[TurnNarrowing]>(SIGNAL.narrowTurn);
export const releaseTurn = defineSignal<[TurnRelease]>(SIGNAL.releaseTurn);
export const refuseEpoch = defineSignal<[EpochRefusal]>(SIGNAL.refuseEpoch);
export const switchMode = defineSignal<[SwitchMode]>(SIGNAL.switchMode);
export const agentOnline = defineSignal(SIGNAL.agentOnline);
export const edge = defineSignal<[Edge]>(SIGNAL.edge);

export const turnGranted = defineSignal<[TurnGrant]>(SIGNAL.turnGranted);
export const superseded = defineSignal<[{ by: OperationRef }]>(SIGNAL.superseded);
export const successorWaiting = defineSignal<[{ waits: boolean }]>(SIGNAL.successorWaiting);
export const lookAgain = defineSignal(SIGNAL.lookAgain);

export const hostState = defineQuery<HostState>(QUERY.hostState);
/** Refused while another agent answers for the host; accepted, it is the host's agent. */
export const registerAgent = defineUpdate<{ accepted: boolean; reason: string | null }, [AgentRegistration]>(
  UPDATE.registerAgent,
);
