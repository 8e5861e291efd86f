import { tenantName } from '../contracts/names.js';
import type { OperationGoal } from '../contracts/operation.js';

/** A goal in a few words, as it shows in the Web UI, in the journal and on the terminal. */
export function describeGoal(goal: OperationGoal): string {
  switch (goal.kind) {
    case 'mode':
      return `mode ${goal.mode}`;
    case 'model':
      return `${goal.verb} ${tenantName(goal.tenant)}${goal.demand ? ' on demand' : ''}`;
    case 'phase':
      return `phase ${goal.phase}`;
    case 'service':
      return `${goal.verb} ${tenantName(goal.tenant)}`;
    case 'lease':
      return `lease ${tenantName(goal.tenant)} (${goal.request.holder})`;
    case 'embedder':
      return `move CLIP to ${goal.device}`;
    case 'idle-unload':
      return `idle unload of ${tenantName(goal.tenant)}`;
    case 'reconcile':
      return `reconcile: ${goal.reason}`;
  }
}

/** What is true of an operation that found its target so: a mode or a phase may be another one all the same. */
export function nothingMoved(goal: OperationGoal, former: { mode: string; phase: string | null } | null): string {
  if (former !== null && goal.kind === 'mode' && former.mode !== goal.mode) {
    return `the mode is changed from ${former.mode}, and nothing had to be moved`;
  }
  if (former !== null && goal.kind === 'phase' && former.phase !== goal.phase) {
    return `the phase is ${former.phase === null ? 'set' : `changed from ${former.phase}`}, and nothing had to be moved`;
  }
  return 'it was true already';
}
