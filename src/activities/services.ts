import { ServiceError } from '../adapters/services/driver.js';
import { timeLimit } from '../adapters/timeLimit.js';
import type { Agent } from '../agent/agent.js';
import { CUT_SHORT, followProof } from '../agent/followProof.js';
import { followStart } from '../agent/followStart.js';
import { gpusNow, learn } from '../agent/learn.js';
import { UNATTENDED_PROOF_MS } from '../agent/reclaims.js';
import { NotReady } from '../agent/services.js';
import { tell } from '../agent/tell.js';
import type { Begun } from '../agent/unfinished.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import { attemptMs, type EndTimes, startTimes, stopTimes } from '../domain/timeouts.js';
import { toComeBack } from '../domain/toComeBack.js';
import { attempt, type StepResult } from './attempt.js';
import { failure, isTimeout } from './failures.js';
import { reclaimed } from './unloadModel.js';
import { freeMbOf, LIST_WAIT_MS, listedSample, measuredUse, sampleNow, usedMbOf } from './vram.js';

/** A list of processes that is not known is waited for no longer than this share of the time. */
const LIST_WAIT_SHARE = 0.1;

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
  const limitMs = attemptMs(step, agent.policy);
  const { readyMs, cleanUp } = startTimes(limitMs);
  agent.setWorking(step.tenant, 'loading');
  const begun = noteStart(agent, step.tenant, operation.workflowId, beforeMb);
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    const inTime = AbortSignal.any([signal, timeLimit(readyMs)]);
    const { health } = await agent.services.start(name, gpus, inTime);
    const ms = Math.round(agent.now() - startedAt);
    // A stop had not ended it, and now it stays: nothing of it is to come back.
    if (agent.reclaims.isStuck(step.tenant)) agent.reclaims.cancel(step.tenant);
    // One that was coming up already took longer than this.
    if (former.sight.state === 'absent') learn(agent, step.tenant, gpusNow(agent, step.tenant), { loadMs: ms });
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
    const [lines] = await Promise.all([
      isTimeout(error) || signal.aborted ? agent.services.lastLines(name) : [],
      endWhatItLeft(agent, step.tenant, gpus, cleanUp),
    ]);
    agent.unfinished.end(step.tenant, begun);
    throw startFailure(name, error, lines, { readyMs, limitMs });
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

function startFailure(
  name: string,
  error: unknown,
  lines: string[],
  { readyMs, limitMs }: { readyMs: number; limitMs: number },
): Error {
  if (error instanceof ServiceError) {
    const type = error.kind === 'missing' ? FAILURE.serviceMissing : FAILURE.serviceFailed;
    return failure(error.kind === 'unavailable' ? FAILURE.driverUnavailable : type, error.message, error.remedy);
  }
  if (error instanceof NotReady) return failure(FAILURE.serviceFailed, error.message, remedyFor(name));
  if (lines.length > 0 || isTimeout(error)) {
    const said = lines.length === 0 ? '' : `; its last lines:\n${lines.join('\n')}`;
    const bound = `${readyMs / 1000} s (of its ${limitMs / 1000} s, the rest is for ending it)`;
    return failure(FAILURE.serviceFailed, `${name} was not ready within ${bound}${said}`, remedyFor(name));
  }
  return error instanceof Error ? error : new TypeError(String(error));
}

const remedyFor = (name: string): string => `vramflow service logs ${name} shows its output`;

/** Whoever waits. What went wrong with the start is what its caller hears; what does not end keeps its GPUs. */
async function endWhatItLeft(agent: Agent, tenant: string, gpus: string[], { graceMs, endMs }: EndTimes) {
  const on = agent.services.hasEnded(tenantName(tenant)) ? [] : gpus;
  const { signal } = new AbortController();
  const startedAt = agent.now();
  try {
    await watchMemory(agent, tenant, on, signal, endMs * LIST_WAIT_SHARE);
    const spentMs = Math.round(agent.now() - startedAt);
    const ended = await endRun(agent, tenant, { graceMs, endMs: endMs - spentMs }, signal);
    if (ended !== 'stuck') agent.reclaims.gone(tenant, UNATTENDED_PROOF_MS);
  } catch {
    agent.reclaims.fail(tenant);
  }
}

/** What does not end keeps its GPUs: they take nothing new until it is gone, and its memory is back (law 8). */
async function endRun(agent: Agent, tenant: string, times: EndTimes, signal: AbortSignal) {
  const result = await agent.services.stop(tenantName(tenant), { ...times, signal });
  if (result === 'stuck') agent.reclaims.fail(tenant);
  else agent.reclaims.gone(tenant);
  return result;
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
  const gpus = gpusNow(agent, step.tenant);
  agent.setWorking(step.tenant, 'unloading');
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    if (sight.state === 'running') {
      await watchMemory(agent, step.tenant, gpusOf(agent, step.tenant), signal, limitMs * LIST_WAIT_SHARE);
      begun = noteStop(agent, step.tenant, operation.workflowId, beforeMb);
      const times = stopTimes(limitMs - (agent.now() - startedAt), agent.reclaims.isStuck(step.tenant));
      if ((await endRun(agent, step.tenant, times, signal)) === 'stuck') throw stuck(name, agent.now() - startedAt);
    } else agent.reclaims.gone(step.tenant);
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
    const ms = Math.round(agent.now() - startedAt);
    // What an earlier attempt had stopped took longer than this.
    if (sight.state === 'running') learn(agent, step.tenant, gpus, { stopMs: ms });
    agent.setError(step.tenant, null);
    tell(agent, step.tenant, begun, proof, ms);
    return { acted: true, proof };
  } catch (error) {
    leaveUnfinished(agent, step.tenant);
    throw error;
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

function stuck(name: string, ms: number): Error {
  const message = `${name} did not end within ${(ms / 1000).toFixed(1)} s: it was killed, and is still there`;
  const remedy =
    'see what holds it (nvidia-smi, dmesg); its GPU takes nothing new until it is gone and its memory is back';
  return failure(FAILURE.serviceFailed, message, remedy);
}

/** What is gone, or goes later because it is stuck, is told of by whoever proves it. One that goes on was not stopped. */
function leaveUnfinished(agent: Agent, tenant: string): void {
  const left = agent.unfinished.of(tenant);
  if (left?.kind !== 'stop' || agent.reclaims.isStuck(tenant)) return;
  if (agent.services.view(tenantName(tenant)).sight.state === 'absent') followProof(agent, tenant, left, CUT_SHORT);
  else {
    agent.reclaims.cancel(tenant);
    agent.unfinished.end(tenant, left);
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

const gpusOf = (agent: Agent, tenant: string): string[] =>
  (tenantOf(agent, tenant)?.holdings ?? []).map(({ device }) => device).filter((device) => device !== CPU);

const tenantOf = (agent: Agent, tenant: string) => agent.observation().tenants.find(({ id }) => id === tenant);

/** What its processes hold is to be proven free once they have ended. @param on the GPUs that it was put on */
async function watchMemory(agent: Agent, tenant: string, on: string[], signal: AbortSignal, waitMs: number) {
  const sample = await listedSample(agent, signal, Math.min(waitMs, LIST_WAIT_MS));
  const ownPids = agent.pids(tenant);
  const chargeMb = tenantOf(agent, tenant)?.chargeMb ?? 0;
  agent.reclaims.beginAnew(tenant, {
    holdings: toComeBack({ on, chargeMb, ownPids }, sample.processes),
    ownPids,
    pidsOfOthers: agent.pidsOfOthers(tenant),
    sample,
    measured: agent.options.readerKind !== 'declared',
  });
}
