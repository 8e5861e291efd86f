/**
 * Which runner is a model's. Ollama does not say, and goes on listing a model whose runner has crashed until somebody asks
 * for it; so the agent remembers which process came with which model. Pure.
 */

export interface ListedOnGpu {
  /** The tenant id. */
  id: string;
  /** It has answered since it was listed. */
  proven: boolean;
}

/**
 * The pids of the runners by tenant id, after a look at the driver's list: a runner that nobody has is that of the only
 * proven model without one. What two models could have is left open.
 * @param models those of which Ollama says that they are on GPUs
 * @param runners the pids of the runners that the driver lists
 */
export function followRunners(
  known: ReadonlyMap<string, number>,
  models: ListedOnGpu[],
  runners: number[],
): ReadonlyMap<string, number> {
  const kept = new Map([...known].filter(([id]) => models.some((model) => model.id === id)));
  const taken = new Set(kept.values());
  const [free, ...more] = runners.filter((pid) => !taken.has(pid));
  // It may be that of one which loads.
  if (free === undefined || more.length > 0 || models.some(({ proven }) => !proven)) return kept;
  const without = models.filter(({ id }) => !kept.has(id));
  // Without a new one it is that of a model which was loaded anew.
  const lost = models.filter(({ id }) => !runners.includes(kept.get(id) ?? free));
  const [owner, ...others] = without.length > 0 ? without : lost;
  return owner === undefined || others.length > 0 ? kept : kept.set(owner.id, free);
}
