import type { Agent } from '../agent/agent.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { attemptMs } from '../domain/timeouts.js';
import { attempt } from './attempt.js';
import type { FailureContext } from './failures.js';
import { loadModel } from './loadModel.js';
import { unloadModel } from './unloadModel.js';

export function createModelActivities(agent: Agent): Pick<AgentActivities, 'loadTenant' | 'unloadTenant'> {
  return {
    loadTenant: (call) => attempt(agent, call, contextOf(agent, call), (signal) => loadModel(agent, call, signal)),
    unloadTenant: (call) => attempt(agent, call, contextOf(agent, call), (signal) => unloadModel(agent, call, signal)),
  };
}

function contextOf(agent: Agent, { step }: StepCall): FailureContext {
  const timeoutMs = attemptMs(step, agent.policy);
  return step.kind === 'load'
    ? { otherwise: FAILURE.loadFailed, timeout: FAILURE.loadTimeout, timeoutMs }
    : { otherwise: FAILURE.unloadFailed, timeout: FAILURE.unloadTimeout, timeoutMs };
}
