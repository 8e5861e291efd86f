/** The events of effects that have ended (M15), each told once: what tells it also ends its entry in `unfinished`. */
import { CPU, EMBEDDER, isService, tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';

const seconds = (ms: number | null): string => (ms === null ? '' : ` after ${(ms / 1000).toFixed(1)} s`);

/** @param ms null: nobody measured it, the agent that loaded it was killed */
export function tellLoaded(agent: Agent, tenant: string, proof: Proof, ms: number | null): void {
  const begun = agent.unfinished.of(tenant);
  if (begun?.kind !== 'load') return;
  agent.journal.append({
    type: 'model_loaded',
    subject: tenant,
    message: `${tenantName(tenant)} is loaded${seconds(ms)}`,
    workflowId: begun.workflowId,
    details: { ...proof, ms },
  });
  agent.unfinished.end(tenant);
}

/** @param ms as above */
export function tellUnloaded(agent: Agent, tenant: string, proof: Proof, ms: number | null): void {
  const begun = agent.unfinished.of(tenant);
  if (begun?.kind !== 'unload') return;
  const ofService = isService(tenant);
  agent.journal.append({
    type: ofService ? 'service_stopped' : 'model_unloaded',
    subject: tenant,
    message: `${tenantName(tenant)} is ${ofService ? 'stopped' : 'unloaded'}: ${proof.by}`,
    workflowId: begun.workflowId,
    details: { ...proof, ms },
  });
  agent.unfinished.end(tenant);
}

/** @param ms as above */
export function tellMoved(agent: Agent, proof: Proof, ms: number | null): void {
  const begun = agent.unfinished.of(EMBEDDER);
  if (begun?.kind !== 'move') return;
  const { from, to, workflowId } = begun;
  agent.journal.append({
    type: 'device_changed',
    subject: EMBEDDER,
    message: `CLIP is on ${to === CPU ? 'the CPU' : 'the GPU'}${seconds(ms)}`,
    workflowId,
    details: { from, to, ...proof, ms },
  });
  agent.unfinished.end(EMBEDDER);
}
