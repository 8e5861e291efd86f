import { CPU } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';
import { tellMoved, tellUnloaded } from './tell.js';
import type { Begun } from './unfinished.js';

/**
 * Takes up what a killed agent had begun and not told of, once this one has looked at Ollama and at the embedder.
 * What was not carried out is forgotten: its operation looks again. A load that was is told of by the probe that proves
 * it; an unload, or a move off a GPU, once a sample shows that the memory is back.
 */
export function resumeUnfinished(agent: Agent): void {
  for (const [tenant, begun] of agent.unfinished.all()) {
    if (!wasCarriedOut(agent, tenant, begun)) agent.unfinished.end(tenant);
    else if (begun.kind !== 'load') tellWhenProven(agent, tenant, begun);
  }
}

function wasCarriedOut(agent: Agent, tenant: string, { kind, to }: Begun): boolean {
  const process = agent.embedder.process();
  if (kind === 'move') return process !== null && (process.gpu ?? CPU) === to;
  const isListed = agent.watch.resident().some((one) => one.id === tenant);
  return kind === 'load' ? isListed : !isListed;
}

function tellWhenProven(agent: Agent, tenant: string, { kind, beforeMb, reclaim }: Begun): void {
  agent.reclaims.resume(tenant, reclaim);
  const tell = (afterMb: Proof['afterMb']): boolean => {
    const by = agent.reclaims.proof(tenant);
    if (by === null) return !agent.reclaims.has(tenant);
    const proof = { beforeMb, afterMb, reclaimMs: null, by: `${by}; a former agent was killed while it did this` };
    if (kind === 'unload') tellUnloaded(agent, tenant, proof, null);
    else tellMoved(agent, proof, null);
    return true;
  };
  const stop = agent.sampler.onSample((sample) => {
    const afterMb = Object.fromEntries(sample.gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));
    // Somebody else may have told of it, or begun anew.
    if (agent.unfinished.of(tenant) === null || tell(afterMb)) stop();
  });
  if (tell({})) stop();
}
