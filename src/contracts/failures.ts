/**
 * The stable `type` strings of every failure that leaves an activity or a workflow.
 * A permanent one is thrown non-retryable: the same call would fail again.
 */
export const FAILURE = {
  /** An attempt passed its time (M19) and was cancelled. */
  loadTimeout: 'LoadTimeout',
  unloadTimeout: 'UnloadTimeout',
  moveTimeout: 'MoveTimeout',
  /** The driver answered with an error, or the proof failed. */
  loadFailed: 'LoadFailed',
  unloadFailed: 'UnloadFailed',
  moveFailed: 'MoveFailed',
  /** The memory did not come back in time although the API said so. */
  notReclaimed: 'NotReclaimed',
  /** Loaded, but partly in system memory, and the configuration does not allow it. */
  partialOffload: 'PartialOffload',
  /** A service did not become ready, or did not stop; its last log lines are in the message. */
  serviceFailed: 'ServiceFailed',
  /** A lease could not be granted or ended. */
  leaseFailed: 'LeaseFailed',
  /** The executable, image or container of a service is not there. */
  serviceMissing: 'ServiceMissing',
  /** The room that the plan counted on is gone: observe and plan anew. */
  premiseGone: 'PremiseGone',
  /** Ollama cannot be reached or answers with errors (M16). */
  driverUnavailable: 'DriverUnavailable',
  /** The model is not installed: `ollama pull` it. */
  modelMissing: 'ModelMissing',
  /** The optional CLIP part is not installed. */
  partMissing: 'PartMissing',
  /** The agent has seen a higher epoch; details: the highest epochs by device. */
  staleEpoch: 'StaleEpoch',
  /** A newer turn on the same device ended this effect. */
  fenced: 'Fenced',
  /** The plan was refused; details: the refusal. */
  refused: 'Refused',
  /** An operation gave up; details: the outcome. */
  operationFailed: 'OperationFailed',
  /** The turn did not come within its bound. */
  noTurn: 'NoTurn',
  /** No agent took the work in time. */
  agentAway: 'AgentAway',
  unknownMode: 'UnknownMode',
  unknownPhase: 'UnknownPhase',
  unknownTenant: 'UnknownTenant',
  secondAgent: 'SecondAgent',
} as const;

export type FailureType = (typeof FAILURE)[keyof typeof FAILURE];
