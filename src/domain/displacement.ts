/** What the mode requires and something else pushed out: not an error, but never silent (law 7). Pure. */
import type { OperationOutcome } from '../contracts/operation.js';
import type { ModePolicy } from '../contracts/policy.js';
import type { TenantObservation } from '../contracts/residency.js';
import { describeGoal } from './describeGoal.js';
import { dismissedBy, pushedOutBy } from './intents.js';

/** Who was pushed out and is not back, by what: `lease train (python)`, `start comfyui`. */
export type Displacements = Readonly<Record<string, string>>;

/** A mode begins with a clean slate; what a person or idle unload took away since was not pushed out. */
export function afterDisplacement(known: Displacements, outcome: OperationOutcome): Displacements {
  const { goal, residency, status } = outcome;
  if (residency === null) return known;
  if (goal.kind === 'mode' && status === 'done') return {};
  const isBack = (tenant: string): boolean => (residency[tenant]?.length ?? 0) > 0;
  const dismissed = dismissedBy(outcome, Object.keys(residency).filter(isBack));
  const pushedOut = Object.fromEntries(pushedOutBy(outcome).map((tenant) => [tenant, describeGoal(goal)]));
  return Object.fromEntries(
    Object.entries({ ...known, ...pushedOut }).filter(([tenant]) => !isBack(tenant) && tenant !== dismissed),
  );
}

/** The reasons of M14, one a tenant. */
export function lacksOfMode(
  name: string,
  mode: ModePolicy | undefined,
  displaced: Displacements,
  tenants: readonly TenantObservation[],
): string[] {
  return Object.entries(mode?.wishes ?? {}).flatMap(([id, { place }]) => {
    const tenant = tenants.find((one) => one.id === id);
    const by = displaced[id] ?? displaced[tenant?.inside ?? ''];
    const isThere = ['resident', 'loading'].includes(tenant?.state ?? 'absent');
    if (place !== 'gpu' || by === undefined || isThere) return [];
    return [`mode ${name} wants ${id}, displaced by ${by}; \`vramflow mode ${name}\` brings it back`];
  });
}
