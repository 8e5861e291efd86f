/**
 * Which runner is a model's. Ollama does not say, and goes on listing a model whose runner has crashed until somebody asks
 * for it; so the agent remembers which process came with which model. Pure.
 */

/**
 * The pids of the runners by tenant id, after a model has answered: the only runner that is no other's is its own. Where
 * another model has none that is known, it could as well be that one's, and stays open.
 * @param listed the ids of the models of which Ollama says that they are on GPUs
 * @param runners the pids of the runners that the driver lists, one for each GPU that it is on
 */
export function withRunnerOf(
  tenant: string,
  known: ReadonlyMap<string, number>,
  listed: string[],
  runners: number[],
): Map<string, number> {
  const former = known.get(tenant);
  if (former !== undefined && runners.includes(former)) return new Map(known);
  const ofOthers = new Map([...known].filter(([id]) => id !== tenant));
  const taken = new Set(ofOthers.values());
  const [free, ...more] = new Set(runners.filter((pid) => !taken.has(pid)));
  const isCertain = more.length === 0 && listed.every((id) => id === tenant || ofOthers.has(id));
  return free === undefined || !isCertain ? ofOthers : ofOthers.set(tenant, free);
}
