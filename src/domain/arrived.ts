import type { HostObservation, Target } from '../contracts/residency.js';

/**
 * Takes the models out of a target that have been loaded for it and may run from system memory: where such a model goes
 * is its driver's choice (Ollama's), and to load it again would end in the same place, for ever.
 * @param loaded the tenants that the operation has loaded with success
 */
export function withoutArrived(target: Target, loaded: readonly string[], observed: HostObservation): Target {
  const arrived = observed.tenants.filter(
    ({ id, kind, state, allowCpu }) => kind === 'model' && state === 'resident' && allowCpu && loaded.includes(id),
  );
  if (arrived.length === 0) return target;
  const wishes = Object.entries(target.wishes).filter(
    ([id, wish]) => wish.place === 'absent' || arrived.every((tenant) => tenant.id !== id),
  );
  return { ...target, wishes: Object.fromEntries(wishes) };
}
