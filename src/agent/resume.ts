import type { GpuSample } from '../adapters/gpu/reader.js';
import { CPU, EMBEDDER, isService, serviceTenant } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';
import { tellMoved, tellUnloaded } from './tell.js';
import type { Begun } from './unfinished.js';

/** For the probe of an embedder that was moved to. */
const PROBE_MS = 10_000;

/**
 * Takes up what a killed agent had begun and not told of, once this one has looked at Ollama, at the services and at the embedder.
 * What was not carried out is forgotten: its operation looks again. A load that was is told of by the probe that proves
 * it; an unload, or a move off a GPU, once a sample shows that the memory is back; a move after a probe (M8), too.
 */
export async function resumeUnfinished(agent: Agent): Promise<void> {
  for (const [tenant, begun] of agent.unfinished.all()) {
    if (!wasCarriedOut(agent, tenant, begun)) agent.unfinished.end(tenant);
    else if (begun.kind === 'unload')
      tellWhenProven(agent, tenant, begun, 'a former agent was killed while it did this');
    else if (begun.kind === 'move') await resumeMove(agent, begun);
  }
}

function wasCarriedOut(agent: Agent, tenant: string, { kind, to }: Begun): boolean {
  const process = agent.embedder.process();
  if (kind === 'move') return process !== null && (process.gpu ?? CPU) === to;
  const isListed = isService(tenant)
    ? agent.services.views().some(({ name, sight }) => serviceTenant(name) === tenant && sight.state === 'running')
    : agent.watch.resident().some((one) => one.id === tenant);
  return kind === 'load' ? isListed : !isListed;
}

async function resumeMove(agent: Agent, begun: Begun): Promise<void> {
  try {
    await agent.embedder.verify(AbortSignal.timeout(PROBE_MS));
  } catch (error) {
    // The next move, or its revival, replaces it.
    agent.unfinished.end(EMBEDDER);
    const message = `CLIP was moved by a former agent, and its probe fails: ${String(error)}`;
    agent.journal.append({ type: 'warning', subject: EMBEDDER, message });
    return;
  }
  tellWhenProven(agent, EMBEDDER, begun, 'embeddings are valid; a former agent was killed while it moved them');
}

function tellWhenProven(agent: Agent, tenant: string, { kind, beforeMb, reclaim }: Begun, how: string): void {
  agent.reclaims.resume(tenant, reclaim);
  const tell = (afterMb: Proof['afterMb']): boolean => {
    const by = agent.reclaims.proof(tenant);
    if (by === null) return !agent.reclaims.has(tenant);
    const proof = { beforeMb, afterMb, reclaimMs: null, by: `${by}; ${how}` };
    if (kind === 'unload') tellUnloaded(agent, tenant, proof, null);
    else tellMoved(agent, proof, null);
    return true;
  };
  const stop = agent.sampler.onSample((sample) => {
    // Somebody else may have told of it, or begun anew.
    if (agent.unfinished.of(tenant) === null || tell(usedMb(sample))) stop();
  });
  if (tell(usedMb(agent.sampler.latest()))) stop();
}

const usedMb = ({ gpus }: GpuSample): Proof['afterMb'] => Object.fromEntries(gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));
