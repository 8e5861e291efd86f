import { ServiceError } from '../adapters/services/driver.js';
import type { Agent } from '../agent/agent.js';
import { CUT_SHORT, followProof } from '../agent/followProof.js';
import { followStart } from '../agent/followStart.js';
import { NotReady } from '../agent/services.js';
import { tell } from '../agent/tell.js';
import type { Begun } from '../agent/unfinished.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import { attemptMs } from '../domain/timeouts.js';
import { attempt, type StepResult } from './attempt.js';
import { failure, isTimeout } from './failures.js';
import { reclaimed } from './unloadModel.js';
import { freeMbOf, measuredUse, sampleNow, usedMbOf } from './vram.js';

/** Of a stop's time, so much is the graceful part; the rest is for the kill, and for the proof that the memory is back. */
const GRACE_SHARE = 0.7;
/** After a start that failed: to end what it left, whoever waits. */
const CLEAN_UP_MS = 15_000;

export function createServiceActivities(agent: Agent): Pick<AgentActivities, 'startService' | 'stopService'> {
  const contextOf = ({ step }: StepCall) => ({
    otherwise: FAILURE.serviceFailed,
    timeout: FAILURE.serviceFailed,
    timeoutMs: attemptMs(step, agent.policy),
  });
  return {
    startService: (call) => attempt(agent, call, contextOf(call), (signal) => start(agent, call, signal)),
    stopService: (call) => attempt(agent, call, contextOf(call), (signal) => stop(agent, call, signal)),
  };
}

/** Starts it on the GPUs of the step and waits until it is ready (P2). One that does not become ready is stopped. */
async function start(agent: Agent, { step, operation }: StepCall, signal: AbortSignal): Promise<StepResult> {
  if (step.kind !== 'load') throw failure(FAILURE.serviceFailed, `a ${step.kind} step came to startService`);
  const name = tenantName(step.tenant);
  const gpus = step.devices.filter((device) => device !== CPU);
  const beforeMb = usedMbOf(agent.sampler.latest());
  const former = agent.services.view(name);
  if (former.sight.state === 'running' && former.health.state === 'ready') {
    return { acted: false, proof: { beforeMb, afterMb: beforeMb, reclaimMs: null, by: 'it is ready' } };
  }
  if (former.sight.state === 'absent' && gpus.length > 0 && agent.options.readerKind === 'nvidia-smi') {
    // On each: which of them it takes is its own affair, where others gave it several.
    const frees = gpus.map((gpu) => freeMbOf(agent.sampler.latest(), [gpu]));
    const free = frees.some((mb) => mb === null) ? null : Math.min(...frees.map(Number));
    if (free === null || free < step.needsMb) {
      throw failure(
        FAILURE.premiseGone,
        `${step.needsMb} MB were to be free, ${free ?? 'an unknown number of'} MB are`,
      );
    }
  }
  agent.setWorking(step.tenant, 'loading');
  const begun = noteStart(agent, step.tenant, operation.workflowId, beforeMb);
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    const { health } = await agent.services.start(name, gpus, signal);
    const ms = Math.round(agent.now() - startedAt);
    const known = agent.learned.get(step.tenant);
    agent.learned.record(step.tenant, { chargeMb: known?.chargeMb ?? 0, peakMb: known?.peakMb ?? 0, loadMs: ms });
    agent.setError(step.tenant, null);
    const proof: Proof = {
      beforeMb,
      afterMb: await sampleNow(agent, signal),
      reclaimMs: null,
      by: health.detail ?? 'it is ready',
    };
    tell(agent, step.tenant, begun, proof, ms);
    return { acted: true, proof };
  } catch (error) {
    // Another turn's affair, or the agent ends: whoever comes next looks what is there (law 6).
    if (signal.aborted && !isTimeout(signal.reason)) {
      followStart(agent, step.tenant, name, begun, CUT_SHORT);
      throw error;
    }
    const lines = isTimeout(error) || signal.aborted ? await agent.services.lastLines(name) : [];
    await cleanUp(agent, name, step.tenant);
    agent.unfinished.end(step.tenant, begun);
    throw startFailure(name, error, lines, attemptMs(step, agent.policy));
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

function startFailure(name: string, error: unknown, lines: string[], limitMs: number): Error {
  if (error instanceof ServiceError) {
    const type = error.kind === 'missing' ? FAILURE.serviceMissing : FAILURE.serviceFailed;
    return failure(error.kind === 'unavailable' ? FAILURE.driverUnavailable : type, error.message, error.remedy);
  }
  if (error instanceof NotReady) return failure(FAILURE.serviceFailed, error.message, remedyFor(name));
  if (lines.length > 0 || isTimeout(error)) {
    const said = lines.length === 0 ? '' : `; its last lines:\n${lines.join('\n')}`;
    return failure(FAILURE.serviceFailed, `${name} was not ready within ${limitMs / 1000} s${said}`, remedyFor(name));
  }
  return error instanceof Error ? error : new TypeError(String(error));
}

const remedyFor = (name: string): string => `vramflow service logs ${name} shows its output`;

async function cleanUp(agent: Agent, name: string, tenant: string): Promise<void> {
  const signal = AbortSignal.timeout(CLEAN_UP_MS);
  watchMemory(agent, tenant);
  const result = await agent.services.stop(name, { graceMs: CLEAN_UP_MS / 3, signal }).catch(() => 'stuck' as const);
  agent.reclaims.gone(tenant);
  if (result === 'stuck') agent.reclaims.fail(tenant);
}

/** Stops it, kills it when its grace has passed, and proves that its memory is back (P6). */
async function stop(agent: Agent, call: StepCall, signal: AbortSignal): Promise<StepResult> {
  const { step, operation } = call;
  const name = tenantName(step.tenant);
  const { sight } = agent.services.view(name);
  // An attempt that was cut short had seen what was used before.
  const left = agent.unfinished.of(step.tenant);
  let begun = sight.state === 'absent' && left?.kind === 'stop' ? left : null;
  const beforeMb = begun?.beforeMb ?? usedMbOf(agent.sampler.latest());
  if (sight.state === 'unknown') {
    throw failure(FAILURE.driverUnavailable, `nobody can tell whether ${name} runs`, 'vramflow doctor says why');
  }
  if (sight.state === 'absent' && !agent.reclaims.has(step.tenant)) {
    return { acted: false, proof: { beforeMb, afterMb: beforeMb, reclaimMs: null, by: 'it does not run' } };
  }
  const limitMs = attemptMs(step, agent.policy);
  agent.setWorking(step.tenant, 'unloading');
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    if (sight.state === 'running') {
      watchMemory(agent, step.tenant);
      begun = noteStop(agent, step.tenant, operation.workflowId, beforeMb);
      const result = await agent.services.stop(name, { graceMs: limitMs * GRACE_SHARE, signal });
      agent.reclaims.gone(step.tenant);
      if (result === 'stuck') {
        agent.reclaims.fail(step.tenant);
        const remedy = 'see who holds it (nvidia-smi); its GPU takes nothing new until the memory is back';
        throw failure(FAILURE.serviceFailed, `${name} was killed and is still there`, remedy);
      }
    }
    const goneAt = agent.now();
    await reclaimed(agent, step.tenant, signal);
    begun ??= noteStop(agent, step.tenant, operation.workflowId, beforeMb);
    const proof: Proof = {
      beforeMb: begun.beforeMb,
      // The sample that proved it.
      afterMb: measuredUse(agent),
      reclaimMs: Math.round(agent.now() - goneAt),
      by: agent.reclaims.proof(step.tenant) ?? 'it does not run',
    };
    agent.setError(step.tenant, null);
    tell(agent, step.tenant, begun, proof, Math.round(agent.now() - startedAt));
    return { acted: true, proof };
  } catch (error) {
    const left = agent.unfinished.of(step.tenant);
    const isGone = agent.services.view(name).sight.state === 'absent';
    if (left?.kind === 'stop' && isGone) followProof(agent, step.tenant, left, CUT_SHORT);
    else if (left?.kind === 'stop') agent.unfinished.end(step.tenant, left);
    throw error;
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

/** In place of what an earlier stop left to tell. A start that was cut short is taken up by the next one of the same run. */
function noteStart(agent: Agent, tenant: string, workflowId: string, beforeMb: Proof['beforeMb']): Begun {
  const left = agent.unfinished.of(tenant);
  const goesOn = left?.kind === 'start' && agent.services.view(tenantName(tenant)).sight.state === 'running';
  if (goesOn) return left;
  const sequence = agent.journal.lastSequence();
  return agent.unfinished.begin(tenant, {
    kind: 'start',
    workflowId,
    sequence,
    beforeMb,
    from: null,
    to: null,
    reclaim: [],
  });
}

function noteStop(agent: Agent, tenant: string, workflowId: string, beforeMb: Proof['beforeMb']): Begun {
  const reclaim = agent.reclaims.stored(tenant);
  const sequence = agent.journal.lastSequence();
  return agent.unfinished.begin(tenant, {
    kind: 'stop',
    workflowId,
    sequence,
    beforeMb,
    from: null,
    to: null,
    reclaim,
  });
}

/** What its processes hold is to be proven free once they have ended. */
function watchMemory(agent: Agent, tenant: string): void {
  const { reclaims } = agent;
  const sample = agent.sampler.latest();
  const ownPids = agent.pids(tenant);
  const listed = (sample.processes ?? []).filter((one) => ownPids.includes(one.pid) && (one.usedMb ?? 0) > 0);
  const byGpu = new Map<string, number>();
  for (const { uuid, usedMb } of listed) byGpu.set(uuid, (byGpu.get(uuid) ?? 0) + (usedMb ?? 0));
  reclaims.cancel(tenant);
  reclaims.begin(tenant, {
    holdings: [...byGpu].map(([device, mb]) => ({ device, mb })),
    ownPids,
    pidsOfOthers: agent.pidsOfOthers(tenant),
    sample,
    measured: agent.options.readerKind !== 'declared',
  });
}
