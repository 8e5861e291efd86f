/** The activities as workflows call them: queues, bounds and retries in one place. */
import { ActivityCancellationType, proxyActivities } from '@temporalio/workflow';
import type { AgentActivities, ControlActivities, IdentityActivities } from '../contracts/activities.js';
import { hostQueue } from '../contracts/names.js';

/** A worker that dies is noticed by its missing heartbeat; FACTS: one operation with one kill takes ~8 s. */
const HEARTBEAT_TIMEOUT = '3s';

/** How long an operation waits for an agent to take its work before it gives up (law 8). */
export const AGENT_AWAY = '2m';

/** Reads and bookkeeping beside the hardware: quick, and safe to repeat. */
export const agentReads = (host: string) =>
  proxyActivities<AgentActivities>({
    taskQueue: hostQueue(host),
    scheduleToCloseTimeout: AGENT_AWAY,
    startToCloseTimeout: '40s',
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: { initialInterval: '200ms', backoffCoefficient: 2, maximumInterval: '5s' },
  });

/** As `agentReads`, for the host's own glances: an agent that is away must not hold the host up. */
export const agentGlances = (host: string) =>
  proxyActivities<AgentActivities & IdentityActivities>({
    taskQueue: hostQueue(host),
    scheduleToStartTimeout: '2s',
    startToCloseTimeout: '15s',
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: { maximumAttempts: 1 },
  });

/**
 * One attempt of one step. The operation itself repeats, after it has looked again: an attempt that an agent's death
 * ended is not one of M19's.
 * @param attemptMs the step's own time; it ends itself then, the rest is a margin for cancelling
 */
export const agentStep = (host: string, attemptMs: number) =>
  proxyActivities<AgentActivities>({
    taskQueue: hostQueue(host),
    scheduleToStartTimeout: AGENT_AWAY,
    startToCloseTimeout: attemptMs + 15_000,
    heartbeatTimeout: HEARTBEAT_TIMEOUT,
    retry: { maximumAttempts: 1 },
    cancellationType: ActivityCancellationType.TRY_CANCEL,
  });

export const control = proxyActivities<ControlActivities>({
  startToCloseTimeout: '10s',
  scheduleToCloseTimeout: '2m',
  retry: { initialInterval: '200ms', maximumInterval: '5s' },
});
