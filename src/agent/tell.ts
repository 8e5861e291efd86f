/** The events of effects that have ended (M15), each told once: what tells it also ends its entry in `unfinished`. */
import type { JournalType } from '../contracts/journal.js';
import { CPU, EMBEDDER, tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import type { Agent } from './agent.js';
import type { Begun } from './unfinished.js';

export const EVENT_OF: Record<Begun['kind'], JournalType> = {
  load: 'model_loaded',
  unload: 'model_unloaded',
  move: 'device_changed',
  start: 'service_started',
  stop: 'service_stopped',
};

/** @param ms null: nobody measured it, its attempt was cut short */
export function tell(agent: Agent, tenant: string, begun: Begun, proof: Proof, ms: number | null): void {
  if (agent.unfinished.of(tenant)?.id !== begun.id) return;
  const { kind, from, to, workflowId } = begun;
  agent.journal.append({
    type: EVENT_OF[kind],
    subject: tenant,
    message: messageOf(tenant, begun, proof, ms),
    workflowId,
    details: { ...(kind === 'move' ? { from, to } : {}), ...proof, ms },
  });
  agent.unfinished.end(tenant, begun);
}

function messageOf(tenant: string, { kind, to }: Begun, proof: Proof, ms: number | null): string {
  const after = ms === null ? '' : ` after ${(ms / 1000).toFixed(1)} s`;
  switch (kind) {
    case 'load':
      return `${tenantName(tenant)} is loaded${after}`;
    case 'unload':
      return `${tenantName(tenant)} is unloaded: ${proof.by}`;
    case 'start':
      return `${tenantName(tenant)} is ready${after}`;
    case 'stop':
      return `${tenantName(tenant)} is stopped: ${proof.by}`;
    case 'move':
      return `${tenant === EMBEDDER ? 'CLIP' : tenant} is on ${to === CPU ? 'the CPU' : 'the GPU'}${after}`;
  }
}
