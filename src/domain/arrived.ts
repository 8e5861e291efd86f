import type { HostObservation, Target } from '../contracts/residency.js';

/**
 * Takes the models out of a target that have been loaded for it and may run from system memory: where such a model goes
 * is its driver's choice (Ollama's), and to load it again would end in the same place, for ever.
 * @param loaded the tenants that the operation has loaded with success
 */
export function withoutArrived(target: Target, loaded: readonly string[], observed: HostObservation): Target {
  const wished = Object.entries(target.wishes).map(([id, wish]) =>
    // Started anew already: from now on it has only to be there.
    'anew' in wish && wish.anew && loaded.includes(id)
      ? ([id, { ...wish, anew: false }] as const)
      : ([id, wish] as const),
  );
  const arrived = observed.tenants.filter(
    ({ id, kind, state, allowCpu }) => kind === 'model' && state === 'resident' && allowCpu && loaded.includes(id),
  );
  const wishes = wished.filter(([id, wish]) => wish.place === 'absent' || arrived.every((tenant) => tenant.id !== id));
  return { ...target, wishes: Object.fromEntries(wishes) };
}
