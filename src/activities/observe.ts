import type { Agent } from '../agent/agent.js';
import type { AgentActivities, FencedCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import type { AgentView } from '../contracts/operation.js';
import { beating } from './attempt.js';
import { toFailure } from './failures.js';

/** Drivers of services that do not answer in this time are away; their services are then unknown. */
const LOOK_MS = 10_000;

const NEVER = { otherwise: FAILURE.agentAway, timeout: FAILURE.agentAway, timeoutMs: 0 };

export function createObserveActivities(agent: Agent): Pick<AgentActivities, 'observe' | 'describeAgent'> {
  async function look(): Promise<AgentView> {
    await Promise.all([agent.watch.look(), agent.services.look(AbortSignal.timeout(LOOK_MS))]);
    return agent.view();
  }
  return {
    observe: (call: FencedCall) =>
      beating(async () => {
        try {
          await agent.fence.enter(call);
        } catch (error) {
          throw toFailure(error, NEVER);
        }
        agent.openGates({ except: call.operation.runId });
        return look();
      }),
    describeAgent: () => beating(look),
  };
}
