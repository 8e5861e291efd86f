import type { GpuSample } from '../adapters/gpu/reader.js';
import { OllamaError } from '../adapters/ollama/ollama.js';
import type { Agent } from '../agent/agent.js';
import { KEEP_ALIVE } from '../agent/keepAlive.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, tenantName } from '../contracts/names.js';
import type { Proof, StepOutcome } from '../contracts/operation.js';
import { isWhole } from '../domain/attribution.js';
import { attemptMs } from '../domain/timeouts.js';
import { attempt } from './attempt.js';
import { type FailureContext, failure, isTimeout } from './failures.js';
import { freeMbOf, usedMbOf } from './vram.js';

/** Of the unload's time, so much is the grace for requests in flight (M4: the grace is included). */
const GRACE_SHARE = 0.4;
const LOOK_EVERY_MS = 100;

export function createModelActivities(agent: Agent): Pick<AgentActivities, 'loadTenant' | 'unloadTenant'> {
  return {
    loadTenant: (call) => attempt(agent, call, contextOf(agent, call), (signal) => load(agent, call, signal)),
    unloadTenant: (call) => attempt(agent, call, contextOf(agent, call), (signal) => unload(agent, call, signal)),
  };
}

function contextOf(agent: Agent, { step }: StepCall): FailureContext {
  const timeoutMs = attemptMs(step, agent.policy);
  return step.kind === 'load'
    ? { otherwise: FAILURE.loadFailed, timeout: FAILURE.loadTimeout, timeoutMs }
    : { otherwise: FAILURE.unloadFailed, timeout: FAILURE.unloadTimeout, timeoutMs };
}

type Result = Pick<StepOutcome, 'proof' | 'acted'>;

/** Loads, and proves it: a probe answered, and all of it is on the GPU unless the CPU is allowed (law 2). */
async function load(agent: Agent, { step, operation }: StepCall, signal: AbortSignal): Promise<Result> {
  if (step.kind !== 'load') throw failure(FAILURE.loadFailed, `a ${step.kind} step came to loadTenant`);
  const model = tenantName(step.tenant);
  const gpus = step.devices.filter((device) => device !== CPU);
  const find = () => agent.watch.resident().find((one) => one.id === step.tenant)?.model;
  await agent.watch.look();
  const before = usedMbOf(agent.sampler.latest());
  const isThere = agent.observation().tenants.some((one) => one.id === step.tenant && one.state === 'resident');
  const present = isThere ? find() : undefined;
  if (present && (step.allowCpu || isWhole(present))) {
    await agent.ollama.probe(model, { signal, keepAlive: KEEP_ALIVE });
    agent.uses.touch(step.tenant);
    agent.watch.markProven(step.tenant);
    return { acted: false, proof: { beforeMb: before, afterMb: before, reclaimMs: null, by: 'it answers a probe' } };
  }
  if (gpus.length > 0 && agent.options.readerKind === 'nvidia-smi') {
    const free = freeMbOf(agent.sampler.latest(), gpus);
    if (free === null) throw failure(FAILURE.premiseGone, 'the free memory is not known any more');
    if (free < step.needsMb) {
      throw failure(FAILURE.premiseGone, `${step.needsMb} MB were to be free, ${free} MB are`);
    }
  }
  agent.setWorking(step.tenant, 'loading');
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    await agent.ollama.load(model, { signal, keepAlive: KEEP_ALIVE });
    await agent.ollama.probe(model, { signal, keepAlive: KEEP_ALIVE });
    await agent.watch.look();
    const loaded = find();
    if (!loaded) throw failure(FAILURE.loadFailed, `Ollama says that ${model} is loaded, but does not list it`);
    if (!step.allowCpu && gpus.length > 0 && !isWhole(loaded)) {
      const message = `only ${Math.round(loaded.vramMb)} of ${Math.round(loaded.sizeMb)} MB of ${model} came to the GPU`;
      throw failure(FAILURE.partialOffload, message, `free more VRAM, or set allow_cpu for ${model}`);
    }
    const ms = Math.round(agent.now() - startedAt);
    const after = await sampleNow(agent, signal);
    if (gpus.length > 0) {
      const chargeMb = Math.round(loaded.vramMb);
      agent.learned.record(step.tenant, {
        chargeMb,
        peakMb: peakSince(agent, gpus, before, startedAt, chargeMb),
        loadMs: ms,
      });
    }
    agent.uses.touch(step.tenant);
    agent.watch.markProven(step.tenant);
    agent.setError(step.tenant, null);
    agent.reclaims.cancel(step.tenant);
    const whole = isWhole(loaded) ? 'size_vram is size' : 'partly or wholly on the CPU, as allowed';
    const proof: Proof = { beforeMb: before, afterMb: after, reclaimMs: null, by: `a probe answered, ${whole}` };
    agent.journal.append({
      type: 'model_loaded',
      subject: step.tenant,
      message: `${model} is loaded after ${(ms / 1000).toFixed(1)} s`,
      workflowId: operation.workflowId,
      details: { ...proof, ms },
    });
    return { acted: true, proof };
  } catch (error) {
    if (signal.aborted || error instanceof OllamaError) await dropped(agent, step.tenant, before);
    throw error;
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

/** Ollama drops a load that was cancelled (seen: 250 ms) or that failed, and its memory comes back, within so long. */
const DROP_BOUND_MS = 4_000;
/** More than this above what was used before the load counts as not back yet, MB. */
const BACK_MB = 64;

/**
 * Waits until Ollama has dropped a load that was cancelled or failed: it lists it still when it answers, and a load that
 * begins before would be answered well, and its model would leave with the dropped one. Then until what it had taken is
 * back, or the next plan would take that for a stranger's. If it does not leave, it had come in the last moment, and the
 * next look sees it.
 */
async function dropped(agent: Agent, tenant: string, before: Record<string, number | null>): Promise<void> {
  const bound = AbortSignal.timeout(DROP_BOUND_MS);
  const isBack = () => {
    const used = usedMbOf(agent.sampler.latest());
    return Object.entries(before).every(([gpu, mb]) => mb === null || (used[gpu] ?? Infinity) <= mb + BACK_MB);
  };
  while (!bound.aborted) {
    await agent.watch.look();
    if (!agent.watch.resident().some((one) => one.id === tenant) && isBack()) return;
    await pause(LOOK_EVERY_MS, bound).catch(() => undefined);
  }
}

/** Unloads, and proves it: Ollama lists it no more, and a later sample shows the memory back (M6, law 2). */
async function unload(agent: Agent, call: StepCall, signal: AbortSignal): Promise<Result> {
  const { step, operation } = call;
  const model = tenantName(step.tenant);
  const isThere = () => agent.watch.resident().some((one) => one.id === step.tenant);
  agent.closeGate(step.tenant, operation.runId);
  await agent.watch.look();
  const before = agent.sampler.latest();
  const beforeMb = usedMbOf(before);
  if (!isThere() && !agent.reclaims.has(step.tenant)) {
    // Who does not answer lists nothing either (law 1).
    const { available, reason } = agent.watch.driver();
    if (!available) throw failure(FAILURE.driverUnavailable, reason ?? 'Ollama does not answer');
    return { acted: false, proof: { beforeMb, afterMb: beforeMb, reclaimMs: null, by: 'Ollama does not list it' } };
  }
  agent.setWorking(step.tenant, 'unloading');
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    if (isThere()) {
      const graceMs = Math.ceil(attemptMs(step, agent.policy) * GRACE_SHARE);
      await agent.gates.drain(step.tenant, graceMs, signal);
      await letGo(agent, step.tenant, before, signal);
    }
    const goneAt = agent.now();
    agent.reclaims.gone(step.tenant);
    await reclaimed(agent, step.tenant, signal);
    const afterMb = await sampleNow(agent, signal);
    const proof: Proof = {
      beforeMb,
      afterMb,
      reclaimMs: Math.round(agent.now() - goneAt),
      by: agent.reclaims.proof(step.tenant) ?? 'Ollama does not list it',
    };
    agent.setError(step.tenant, null);
    agent.journal.append({
      type: 'model_unloaded',
      subject: step.tenant,
      message: `${model} is unloaded: ${proof.by}`,
      workflowId: operation.workflowId,
      details: { ...proof, ms: Math.round(agent.now() - startedAt) },
    });
    return { acted: true, proof };
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

/** Asks Ollama to drop the model, and looks every 100 ms until it lists it no more. */
async function letGo(agent: Agent, tenant: string, before: GpuSample, signal: AbortSignal): Promise<void> {
  const { reclaims, watch } = agent;
  const holdings = agent.observation().tenants.find((one) => one.id === tenant)?.holdings ?? [];
  // It is there: what an earlier unload left to prove is over.
  reclaims.cancel(tenant);
  reclaims.begin(tenant, holdings, agent.pids(tenant), before, agent.options.readerKind !== 'declared');
  try {
    await agent.ollama.unload(tenantName(tenant), { signal });
    for (;;) {
      await watch.look();
      if (!watch.resident().some((one) => one.id === tenant)) return;
      signal.throwIfAborted();
      await pause(LOOK_EVERY_MS, signal);
    }
  } catch (error) {
    reclaims.cancel(tenant);
    throw error;
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

async function sampleNow(agent: Agent, signal: AbortSignal): Promise<Record<string, number | null>> {
  if (agent.options.readerKind !== 'nvidia-smi') return {};
  return usedMbOf(await agent.sampler.sampleAfter(agent.now(), { signal, boundMs: 5_000 }));
}

/** The most that the GPUs held above what they held before, MB; at least the charge. */
function peakSince(
  agent: Agent,
  gpus: string[],
  before: Record<string, number | null>,
  startedAt: number,
  chargeMb: number,
): number {
  const peaks = gpus.map((gpu) => {
    const used = agent.sampler
      .history(gpu)
      .filter((sample) => sample.takenAt >= startedAt)
      .map((sample) => sample.gpus.find((one) => one.uuid === gpu)?.usedMb ?? 0);
    return Math.max(0, ...used.map((mb) => mb - (before[gpu] ?? mb)));
  });
  return Math.max(chargeMb, Math.round(peaks.reduce((sum, mb) => sum + mb, 0)));
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', aborted);
      resolve();
    }, ms);
    signal.addEventListener('abort', aborted, { once: true });
  });
}
