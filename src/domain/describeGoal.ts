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
