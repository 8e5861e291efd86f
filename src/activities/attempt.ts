import { Context } from '@temporalio/activity';
import { timeLimit } from '../adapters/timeLimit.js';
import type { Agent } from '../agent/agent.js';
import type { StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import type { StepOutcome } from '../contracts/operation.js';
import { type FailureContext, failure, toFailure } from './failures.js';

/** Well below the heartbeat timeout of 3 s, so that one late beat ends nothing. */
const HEARTBEAT_MS = 800;

/** Runs work with heartbeats; `signal` is aborted when the activity is cancelled or its worker shuts down. */
export async function beating<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const context = Context.current();
  context.heartbeat();
  const timer = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work(context.cancellationSignal);
  } finally {
    clearInterval(timer);
  }
}

/** What an effect adds to the outcome of its step. */
export type StepResult = Pick<StepOutcome, 'proof' | 'acted'>;

/**
 * One attempt of one step (M19): fenced, joined when repeated, ended at its time.
 * @param effect gets a signal that is aborted at the timeout, at cancellation and by a newer turn
 */
export function attempt(
  agent: Agent,
  call: StepCall,
  context: FailureContext,
  effect: (signal: AbortSignal) => Promise<StepResult>,
): Promise<StepOutcome> {
  const { step, round } = call;
  return beating(async (cancelled) => {
    try {
      const one = { key: `${round}.${step.id}`, name: `${step.kind} ${step.tenant}`, devices: step.devices };
      return await agent.fence.run(call, one, cancelled, async (fenced) => {
        const startedAt = agent.now();
        const signal = AbortSignal.any([fenced, timeLimit(context.timeoutMs)]);
        const result = await effect(signal);
        const ms = Math.round(agent.now() - startedAt);
        return { step: step.id, kind: step.kind, tenant: step.tenant, ms, attempts: 1, ...result };
      });
    } catch (error) {
      // The worker goes, or nobody waits for this attempt any more: it says nothing about the model.
      if (cancelled.aborted) throw failure(FAILURE.premiseGone, 'the attempt was given up');
      throw toFailure(error, context);
    }
  });
}
