import type { Edge } from '../contracts/messages.js';
import { isModel, isService, modelTenant, serviceTenant } from '../contracts/names.js';
import type { AgentView, Intents, OperationGoal, OperationOutcome } from '../contracts/operation.js';
import type { HostObservation } from '../contracts/residency.js';

/** What a host wants before anybody asked for anything (M1: `idle` at first). */
export const noIntents = (mode = 'idle'): Intents => ({
  mode,
  phase: null,
  embedderByHand: null,
  wanted: [],
  displaced: [],
  degradedReason: null,
});

/**
 * What a new host chain wants at its first look: what the earlier one wanted, and what is resident of the configuration. A
 * mode or a phase that was reached without the host hears of it began anew: what was wanted before no longer counts.
 */
export function intentsAtFirst(earlier: Intents, { mode, phase, observation, policy }: AgentView): Intents {
  const resident = residentOf(observation);
  const hasMoved = mode !== earlier.mode || phase !== earlier.phase;
  const configured = new Set([
    ...policy.models.map(({ name }) => modelTenant(name)),
    ...policy.services.map(({ name }) => serviceTenant(name)),
  ]);
  const wanted = hasMoved ? [] : earlier.wanted.filter((tenant) => configured.has(tenant));
  const displaced = hasMoved ? [] : earlier.displaced.filter(({ tenant }) => wanted.includes(tenant));
  return {
    ...earlier,
    mode,
    phase,
    embedderByHand: mode === earlier.mode ? earlier.embedderByHand : null,
    wanted: [...new Set([...wanted, ...resident])].sort(),
    displaced: displaced.filter(({ tenant }) => !resident.includes(tenant)),
  };
}

const residentOf = (observed: HostObservation): string[] =>
  observed.tenants
    .filter(
      (tenant) =>
        (tenant.kind === 'model' || tenant.kind === 'service') && tenant.configured && tenant.state === 'resident',
    )
    .map((tenant) => tenant.id);

/** What can be restored: models and services. The embedder has its own rule, and a lease its own life. */
const restorable = (residency: Record<string, string[]>): string[] =>
  Object.keys(residency)
    .filter((tenant) => (isModel(tenant) || isService(tenant)) && (residency[tenant]?.length ?? 0) > 0)
    .sort();

/**
 * What the host wants once an operation has ended. What is resident then is wanted, so that it is restored if it dies,
 * and so is what died while another operation ran; what the operation, idle unload or a person took away is not. A
 * wanted tenant that an on-demand load or a lease pushed out stays wanted, and is brought back when that one ends: after
 * a demand once, after a lease as soon as there is room, for its end is no operation that could look.
 */
export function afterOperation(intents: Intents, outcome: OperationOutcome): Intents {
  if (outcome.residency === null) return intents;
  const { goal, status } = outcome;
  const reachedMode = goal.kind === 'mode' && status === 'done' ? goal.mode : null;
  const reachedPhase = goal.kind === 'phase' && status === 'done' ? goal.phase : null;
  // What is there after a mode or a phase is what is wanted: it is moved to once.
  const isNewStart = reachedMode !== null || reachedPhase !== null;
  const present = restorable(outcome.residency);
  const dismissed = dismissedBy(outcome, present);
  const resident = present.filter((tenant) => tenant !== dismissed);
  const pushedOut = pushedOutBy(outcome).filter((tenant) => !resident.includes(tenant));
  const displaced = isNewStart ? [] : displacedAfter(intents, outcome, { resident, pushedOut, dismissed });
  // Brought back at the demand's end if it found room then; if it did not, not later.
  const hadItsChance = intents.displaced.filter(({ by }) => by === dismissed && status === 'done');
  const gone = [dismissed, ...pushedOut, ...hadItsChance.map((entry) => entry.tenant)];
  const died = isNewStart ? [] : intents.wanted.filter((tenant) => !gone.includes(tenant));
  return {
    ...intents,
    mode: reachedMode ?? intents.mode,
    phase: reachedPhase ?? intents.phase,
    embedderByHand: byHand(intents, outcome),
    wanted: [...new Set([...resident, ...died, ...displaced.map((entry) => entry.tenant)])].sort(),
    displaced,
  };
}

/**
 * The model that an unload took away, or was to take away: one that failed half-way may still hold memory, and is not
 * loaded again for that. Null when there was none, when it was refused, or when the model was used again and stays.
 */
export function dismissedBy({ goal, status }: OperationOutcome, present: string[]): string | null {
  if (!isUnload(goal) || status === 'refused' || status === 'superseded') return null;
  return status === 'done' && present.includes(goal.tenant) ? null : goal.tenant;
}

const isUnload = (goal: OperationGoal): goal is Extract<OperationGoal, { tenant: string }> =>
  goal.kind === 'idle-unload' ||
  (goal.kind === 'model' && goal.verb === 'unload') ||
  (goal.kind === 'service' && goal.verb === 'stop');

/** What made room; some of it may have been put back after a failure. */
export const pushedOutBy = ({ displaced, steps }: OperationOutcome): string[] => [
  ...new Set([...displaced, ...steps.filter((step) => step.kind === 'unload').map((step) => step.tenant)]),
];

function displacedAfter(
  intents: Intents,
  { goal }: OperationOutcome,
  { resident, pushedOut, dismissed }: { resident: string[]; pushedOut: string[]; dismissed: string | null },
): Intents['displaced'] {
  const isDemand = goal.kind === 'lease' || (goal.kind === 'model' && goal.verb === 'load' && goal.demand);
  const demander = isDemand ? goal.tenant : null;
  const ended = demander === null ? [dismissed, ...pushedOut] : [];
  const kept = intents.displaced.filter(({ tenant, by }) => !ended.includes(by) && tenant !== dismissed);
  const added = pushedOut
    .filter((tenant) => intents.wanted.includes(tenant) && !kept.some((entry) => entry.tenant === tenant))
    .flatMap((tenant) => (demander === null ? [] : [{ tenant, by: demander }]));
  return [...kept, ...added].filter((entry) => !resident.includes(entry.tenant));
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
