import type { Agent } from './agent.js';
import { tell } from './tell.js';
import type { Begun } from './unfinished.js';

/**
 * Follows a service that was started but whose attempt was cut short before it was ready: tells of it once it is. Ends
 * without a word when somebody else has told of it; one that does not come up is told of as a service that failed.
 * @param name of the service
 * @param how what is added to the proof
 */
export function followStart(agent: Agent, tenant: string, name: string, begun: Begun, how: string): void {
  agent.services.untilReady(name).then(
    ({ health }) => {
      const afterMb = Object.fromEntries(agent.sampler.latest().gpus.map((gpu) => [gpu.uuid, gpu.usedMb]));
      const by = `${health.detail ?? 'it is ready'}; ${how}`;
      tell(agent, tenant, begun, { beforeMb: begun.beforeMb, afterMb, reclaimMs: null, by }, null);
    },
    () => {
      // The agent that ends leaves it to its successor.
      if (!agent.services.isClosed()) agent.unfinished.end(tenant, begun);
    },
  );
}
