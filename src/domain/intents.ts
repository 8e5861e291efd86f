import type { Edge } from '../contracts/messages.js';
import type { Intents, OperationOutcome } from '../contracts/operation.js';

/** What a host wants before anybody asked for anything (M1: `idle` at first). */
export const noIntents = (mode = 'idle'): Intents => ({
  mode,
  embedderByHand: null,
  wanted: [],
  displaced: [],
  degradedReason: null,
});

const modelsOf = (residency: Record<string, string[]>): string[] =>
  Object.keys(residency)
    .filter((tenant) => tenant.startsWith('model/') && (residency[tenant]?.length ?? 0) > 0)
    .sort();

/**
 * What the host wants once an operation has ended. What is resident then is wanted, so that it is restored if it
 * dies; what idle unload or a person took away is not. A wanted model that an on-demand load pushed out stays
 * wanted, and is brought back when that demand ends.
 */
export function afterOperation(intents: Intents, outcome: OperationOutcome): Intents {
  if (outcome.residency === null) return intents;
  const resident = modelsOf(outcome.residency);
  const { goal } = outcome;
  let displaced = intents.displaced.filter((entry) => !resident.includes(entry.tenant));
  if (goal.kind === 'model' && goal.verb === 'load' && goal.demand) {
    const pushedOut = outcome.displaced.filter((tenant) => intents.wanted.includes(tenant));
    displaced = [...displaced, ...pushedOut.map((tenant) => ({ tenant, by: goal.tenant }))];
  }
  if (goal.kind === 'mode' && outcome.status === 'done') displaced = [];
  if (goal.kind === 'model' && goal.verb === 'unload') {
    displaced = displaced.filter((entry) => entry.tenant !== goal.tenant);
  }
  if (outcome.status === 'done' && (goal.kind === 'idle-unload' || goal.kind === 'model')) {
    const ended = goal.kind === 'idle-unload' || goal.verb === 'unload' ? goal.tenant : null;
    displaced = displaced.filter((entry) => entry.by !== ended);
  }
  return {
    ...intents,
    mode: goal.kind === 'mode' && outcome.status === 'done' ? goal.mode : intents.mode,
    embedderByHand: byHand(intents, outcome),
    wanted: [...new Set([...resident, ...displaced.map((entry) => entry.tenant)])].sort(),
    displaced,
  };
}

function byHand(intents: Intents, { goal, status }: OperationOutcome): Intents['embedderByHand'] {
  if (status !== 'done') return intents.embedderByHand;
  if (goal.kind === 'mode') return null;
  if (goal.kind === 'embedder') return goal.device;
  return intents.embedderByHand;
}

/** What the host wants after something changed by itself. What died stays wanted; what was taken away does not. */
export function afterEdge(intents: Intents, edge: Pick<Edge, 'kind' | 'subject' | 'details'>): Intents {
  switch (edge.kind) {
    case 'driver-away':
      return { ...intents, degradedReason: edge.details };
    case 'driver-back':
      return { ...intents, degradedReason: null };
    case 'tenant-left':
      return {
        ...intents,
        wanted: intents.wanted.filter((tenant) => tenant !== edge.subject),
        displaced: intents.displaced.filter((entry) => entry.tenant !== edge.subject && entry.by !== edge.subject),
      };
    default:
      return intents;
  }
}
