import { OllamaError } from '../adapters/ollama/ollama.js';
import { pause } from '../adapters/processes/pause.js';
import type { Agent } from '../agent/agent.js';
import { KEEP_ALIVE } from '../agent/keepAlive.js';
import { gpusNow, learn } from '../agent/learn.js';
import { tell } from '../agent/tell.js';
import type { StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, tenantName } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import { isWhole } from '../domain/attribution.js';
import type { StepResult } from './attempt.js';
import { failure } from './failures.js';
import { freeMbOf, sampleNow, usedMbOf } from './vram.js';

const LOOK_EVERY_MS = 100;

/** Loads, and proves it: a probe answered, and all of it is on the GPU unless the CPU is allowed (law 2). */
export async function loadModel(agent: Agent, call: StepCall, signal: AbortSignal): Promise<StepResult> {
  const { step, operation } = call;
  if (step.kind !== 'load') throw failure(FAILURE.loadFailed, `a ${step.kind} step came to loadTenant`);
  const model = tenantName(step.tenant);
  const gpus = step.devices.filter((device) => device !== CPU);
  const find = () => agent.watch.resident().find((one) => one.id === step.tenant)?.model;
  await agent.watch.look();
  const before = usedMbOf(agent.sampler.latest());
  const isThere = agent.observation().tenants.some((one) => one.id === step.tenant && one.state === 'resident');
  const present = isThere ? find() : undefined;
  if (present && (step.allowCpu || isWhole(present))) return proveIsThere(agent, call, signal, before);
  if (step.confirms) throw failure(FAILURE.premiseGone, `${model} was listed, and is gone`);
  if (gpus.length > 0 && agent.options.readerKind === 'nvidia-smi') {
    const free = freeMbOf(agent.sampler.latest(), gpus);
    if (free === null) throw failure(FAILURE.premiseGone, 'the free memory is not known any more');
    if (free < step.needsMb) {
      throw failure(FAILURE.premiseGone, `${step.needsMb} MB were to be free, ${free} MB are`);
    }
  }
  const begun = agent.unfinished.begin(step.tenant, {
    kind: 'load',
    workflowId: operation.workflowId,
    sequence: agent.journal.lastSequence(),
    beforeMb: before,
    from: null,
    to: null,
    reclaim: [],
  });
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
      learn(agent, step.tenant, gpusNow(agent, step.tenant), {
        chargeMb,
        peakMb: peakSince(agent, gpus, before, startedAt, chargeMb),
        loadMs: ms,
      });
    }
    agent.uses.touch(step.tenant);
    agent.markProven(step.tenant);
    agent.setError(step.tenant, null);
    agent.reclaims.cancel(step.tenant);
    const whole = isWhole(loaded) ? 'size_vram is size' : 'partly or wholly on the CPU, as allowed';
    const proof: Proof = { beforeMb: before, afterMb: after, reclaimMs: null, by: `a probe answered, ${whole}` };
    tell(agent, step.tenant, begun, proof, ms);
    return { acted: true, proof };
  } catch (error) {
    if (signal.aborted || error instanceof OllamaError) await dropped(agent, step.tenant, before);
    // One that came all the same in the last moment is told of by whoever proves it.
    if (find() === undefined) agent.unfinished.end(step.tenant, begun);
    else agent.watch.unprove(step.tenant);
    throw error;
  } finally {
    agent.setWorking(step.tenant, null);
    sparse();
  }
}

/**
 * It is listed: a probe tells whether it works, and a look afterwards whether it is where it should be, for a probe makes
 * Ollama load what has gone. A load whose attempt was cut short is told of here.
 */
async function proveIsThere(
  agent: Agent,
  { step, operation }: StepCall,
  signal: AbortSignal,
  usedMb: Proof['beforeMb'],
): Promise<StepResult> {
  const model = tenantName(step.tenant);
  await agent.ollama.probe(model, { signal, keepAlive: KEEP_ALIVE });
  await agent.watch.look();
  const listed = agent.watch.resident().find((one) => one.id === step.tenant)?.model;
  if (listed === undefined) throw failure(FAILURE.premiseGone, `${model} answered a probe, and is gone`);
  const allowCpu = step.kind === 'load' && step.allowCpu;
  if (!allowCpu && !isWhole(listed)) throw failure(FAILURE.premiseGone, `${model} is not whole on the GPU any more`);
  agent.uses.touch(step.tenant);
  agent.markProven(step.tenant);
  // An unload that was cut short has not happened: its promise is taken back by the probe.
  agent.reclaims.cancel(step.tenant);
  const begun = agent.unfinished.of(step.tenant);
  if (begun?.kind === 'unload') agent.unfinished.end(step.tenant, begun);
  const proof: Proof = { beforeMb: usedMb, afterMb: usedMb, reclaimMs: null, by: 'it answers a probe' };
  if (begun?.kind !== 'load') return { acted: false, proof };
  proof.beforeMb = begun.beforeMb;
  tell(agent, step.tenant, begun, proof, null);
  return { acted: begun.workflowId === operation.workflowId, proof };
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
