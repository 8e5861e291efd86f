import type { Agent } from '../agent/agent.js';
import { NotEntered, StaleEpoch } from '../agent/fence.js';
import { policyOf } from '../agent/observe.js';
import type { AgentActivities } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { beating } from './attempt.js';
import { toFailure } from './failures.js';

const NEVER = { otherwise: FAILURE.unloadFailed, timeout: FAILURE.unloadTimeout, timeoutMs: 0 };

/** M12 and law 10: in use is not idle; the age counts from the later of the last use and the agent's start. */
export function createIdleActivities(agent: Agent): Pick<AgentActivities, 'idleRemaining' | 'closeIfIdle'> {
  function remaining(tenant: string): number | null {
    const seconds = policyOf(agent.policy, tenant)?.idleTimeoutSeconds ?? null;
    // As observed: Ollama goes on listing a model whose runner has crashed, and there is nothing to unload then.
    const idleForMs = agent.observation().tenants.find((one) => one.id === tenant)?.idleForMs ?? null;
    if (seconds === null || idleForMs === null) return null;
    if (agent.gates.uses(tenant) > 0) return seconds * 1000;
    return Math.max(0, seconds * 1000 - idleForMs);
  }
  return {
    idleRemaining: (tenant) =>
      beating(async () => {
        await agent.watch.look();
        return remaining(tenant);
      }),
    closeIfIdle: (call) =>
      beating(async () => {
        await agent.watch.look();
        // From here to the closed gate nothing is awaited: no request and no newer turn can slip in between.
        if (agent.fence.isStale(call)) throw toFailure(new StaleEpoch(agent.fence.highest()), NEVER);
        // An agent that has started since knows no gate that this operation closed, and counts idleness anew (law 10).
        if (!agent.fence.hasEntered(call)) throw toFailure(new NotEntered(), NEVER);
        const remainingMs = remaining(call.tenant);
        if (remainingMs !== 0) return { closed: false, remainingMs };
        agent.closeGate(call.tenant, call.operation.runId);
        return { closed: true, remainingMs };
      }),
  };
}
