import type { GpuSample } from '../adapters/gpu/reader.js';
import { pause } from '../adapters/processes/pause.js';
import type { Agent } from '../agent/agent.js';
import { CUT_SHORT, followProof } from '../agent/followProof.js';
import { gpusNow, learn } from '../agent/learn.js';
import { tell } from '../agent/tell.js';
import type { Begun } from '../agent/unfinished.js';
import type { StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import { attemptMs } from '../domain/timeouts.js';
import type { StepResult } from './attempt.js';
import { failure, isTimeout } from './failures.js';
import { listedSample, measuredUse, usedMbOf } from './vram.js';

/** Of the unload's time, so much is the grace for requests in flight (M4: the grace is included). */
const GRACE_SHARE = 0.4;
const LOOK_EVERY_MS = 100;

/** Unloads, and proves it: Ollama lists it no more, and a later sample shows the memory back (M6, law 2). */
export async function unloadModel(agent: Agent, call: StepCall, signal: AbortSignal): Promise<StepResult> {
  const { step, operation } = call;
  const isThere = () => agent.watch.resident().some((one) => one.id === step.tenant);
  agent.closeGate(step.tenant, operation.runId);
  await agent.watch.look();
  const before = agent.sampler.latest();
  // An attempt that was cut short had seen what was used before.
  const former = isThere() ? null : agent.unfinished.of(step.tenant);
  const beforeMb = former?.kind === 'unload' ? former.beforeMb : usedMbOf(before);
  if (!isThere() && !agent.reclaims.has(step.tenant)) {
    // Who does not answer lists nothing either (law 1).
    const { available, reason } = agent.watch.driver();
    if (!available) throw failure(FAILURE.driverUnavailable, reason ?? 'Ollama does not answer');
    return { acted: false, proof: { beforeMb, afterMb: beforeMb, reclaimMs: null, by: 'Ollama does not list it' } };
  }
  let begun = former?.kind === 'unload' ? former : null;
  agent.setWorking(step.tenant, 'unloading');
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    let asked: { atMs: number; gpus: string[] } | null = null;
    if (isThere()) {
      const graceMs = Math.ceil(attemptMs(step, agent.policy) * GRACE_SHARE);
      await agent.gates.drain(step.tenant, graceMs, signal);
      const picture = await listedSample(agent, signal);
      asked = { atMs: agent.now(), gpus: gpusNow(agent, step.tenant) };
      begun = await letGo(agent, call, picture, usedMbOf(before), signal);
    }
    begun ??= noteBegun(agent, call, beforeMb);
    const goneAt = agent.now();
    agent.reclaims.gone(step.tenant);
    await reclaimed(agent, step.tenant, signal);
    const proof: Proof = {
      beforeMb,
      // The sample that proved it.
      afterMb: measuredUse(agent),
      reclaimMs: Math.round(agent.now() - goneAt),
      by: agent.reclaims.proof(step.tenant) ?? 'Ollama does not list it',
    };
    // Without the grace for requests in flight, which the next one may not need.
    if (asked !== null) learn(agent, step.tenant, asked.gpus, { stopMs: Math.round(agent.now() - asked.atMs) });
    agent.setError(step.tenant, null);
    tell(agent, step.tenant, begun, proof, Math.round(agent.now() - startedAt));
    return { acted: true, proof };
  } catch (error) {
    leaveUnfinished(agent, step.tenant, isThere());
    throw error;
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

/** What was cut short and is gone is told of by whoever proves it (agent/followProof); so is what leaves later. */
function leaveUnfinished(agent: Agent, tenant: string, isThere: boolean): void {
  // Ollama may have promised to drop it once its requests have ended: a probe renews its keep-alive.
  if (isThere) return agent.watch.unprove(tenant);
  const begun = agent.unfinished.of(tenant);
  if (begun?.kind === 'unload') followProof(agent, tenant, begun, CUT_SHORT);
}

function noteBegun(agent: Agent, { step, operation }: StepCall, beforeMb: Proof['beforeMb']): Begun {
  return agent.unfinished.begin(step.tenant, {
    kind: 'unload',
    workflowId: operation.workflowId,
    sequence: agent.journal.lastSequence(),
    beforeMb,
    from: null,
    to: null,
    reclaim: agent.reclaims.stored(step.tenant),
  });
}

/** Asks Ollama to drop the model, and looks every 100 ms until it lists it no more. */
async function letGo(
  agent: Agent,
  call: StepCall,
  picture: GpuSample,
  beforeMb: Proof['beforeMb'],
  signal: AbortSignal,
): Promise<Begun> {
  const { reclaims, watch } = agent;
  const { tenant } = call.step;
  const holdings = agent.observation().tenants.find((one) => one.id === tenant)?.holdings ?? [];
  // It is there: what an earlier unload left to prove is over.
  reclaims.cancel(tenant);
  reclaims.begin(tenant, {
    holdings,
    ownPids: agent.pids(tenant),
    pidsOfOthers: agent.pidsOfOthers(tenant),
    sample: picture,
    measured: agent.options.readerKind !== 'declared',
  });
  const begun = noteBegun(agent, call, beforeMb);
  await agent.ollama.unload(tenantName(tenant), { signal });
  for (;;) {
    await watch.look();
    if (!watch.resident().some((one) => one.id === tenant)) return begun;
    signal.throwIfAborted();
    await pause(LOOK_EVERY_MS, signal);
  }
}

/**
 * Waits for the proof that the memory is back. Cancelled before, it is no failure: what is not proven still counts as
 * held. @throws NotReclaimed when the attempt's time has passed, or when the memory settled without coming back
 */
export async function reclaimed(agent: Agent, tenant: string, signal: AbortSignal): Promise<void> {
  if (!agent.reclaims.has(tenant)) return;
  const held = agent.reclaims.unproven(tenant).map((holding) => `${holding.mb} MB on ${holding.device}`);
  const notReclaimed = () =>
    failure(
      FAILURE.notReclaimed,
      `${tenant} is gone by its API, but its memory did not come back: ${held.join(', ')}`,
      'see who holds it (nvidia-smi); the GPU takes nothing new until it is back',
    );
  while (agent.reclaims.has(tenant)) {
    try {
      await agent.sampler.sampleAfter(agent.now(), { signal, boundMs: 60_000 });
    } catch (error) {
      if (!signal.aborted || !isTimeout(signal.reason)) throw error;
      agent.reclaims.fail(tenant);
      throw notReclaimed();
    }
  }
  if (agent.reclaims.proof(tenant) === null) throw notReclaimed();
}
