import type { Agent } from '../agent/agent.js';
import { CUT_SHORT, followProof } from '../agent/followProof.js';
import { learn } from '../agent/learn.js';
import { tell } from '../agent/tell.js';
import type { Begun } from '../agent/unfinished.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, EMBEDDER } from '../contracts/names.js';
import type { Proof } from '../contracts/operation.js';
import { attemptMs } from '../domain/timeouts.js';
import { attempt, type StepResult } from './attempt.js';
import { failure } from './failures.js';
import { reclaimed } from './unloadModel.js';
import { freeMbOf, sampleNow, usedMbOf } from './vram.js';

export function createEmbedderActivities(agent: Agent): Pick<AgentActivities, 'moveEmbedder'> {
  return {
    moveEmbedder: (call) => {
      const timeoutMs = attemptMs(call.step, agent.policy);
      const context = { otherwise: FAILURE.moveFailed, timeout: FAILURE.moveTimeout, timeoutMs };
      return attempt(agent, call, context, (signal) => move(agent, call, signal, timeoutMs));
    },
  };
}

/** Moves the embedder (M5, M7, M8): the other process proves itself before callers switch and the old one ends. */
async function move(agent: Agent, call: StepCall, signal: AbortSignal, limitMs: number): Promise<StepResult> {
  const { step } = call;
  if (step.kind !== 'move') throw failure(FAILURE.moveFailed, `a ${step.kind} step came to moveEmbedder`);
  const old = agent.embedder.process();
  const before = agent.sampler.latest();
  const beforeMb = usedMbOf(before);
  const isThere = old !== null && (old.gpu ?? CPU) === step.to && (await agent.embedder.alive());
  if (isThere && !agent.reclaims.has(EMBEDDER)) {
    return { acted: false, proof: { beforeMb, afterMb: beforeMb, reclaimMs: null, by: 'it is there and answers' } };
  }
  const toGpu = step.to !== CPU;
  if (toGpu && !isThere && agent.options.readerKind === 'nvidia-smi') {
    const free = freeMbOf(before, [step.to]);
    const needed = agent.policy.embedder.declaredMb;
    if (free === null || free < needed) {
      throw failure(
        FAILURE.premiseGone,
        `${needed} MB were to be free on ${step.to}, ${free ?? 'an unknown number of'} MB are`,
      );
    }
  }
  const sparse = agent.sampler.dense();
  const startedAt = agent.now();
  try {
    const former = agent.unfinished.of(EMBEDDER);
    let begun = isThere && former?.kind === 'move' ? former : null;
    if (!isThere) {
      // What the old process holds is watched, so that the move ends when its memory is really back (law 2).
      const held = agent.observation().tenants.find((tenant) => tenant.id === EMBEDDER)?.holdings ?? [];
      // Off a GPU that cannot be read nothing can be proven: its process is gone, and the GPU takes nothing new meanwhile.
      const isRead = old?.gpu != null && beforeMb[old.gpu] != null;
      const measured = agent.options.readerKind !== 'declared' && isRead;
      // One that has crashed gives nothing back any more (pain 3); one that hangs is on the driver's list.
      const mayHold = before.processes?.some(({ pid }) => pid === old?.pid) ?? true;
      if (old?.gpu && (mayHold || (await agent.embedder.alive()))) {
        agent.reclaims.begin(EMBEDDER, {
          holdings: held,
          ownPids: [old.pid],
          pidsOfOthers: agent.pidsOfOthers(EMBEDDER),
          sample: before,
          measured,
        });
      }
      begun = noteBegun(agent, call, beforeMb, old && (old.gpu ?? CPU));
      try {
        await agent.embedder.move(toGpu ? 'cuda' : 'cpu', toGpu ? step.to : null, signal, limitMs);
      } catch (error) {
        // Callers have switched, and the old process does not end: what it holds stays to be proven free (pain 8).
        if (agent.embedder.process()?.pid === old?.pid) agent.reclaims.cancel(EMBEDDER);
        else agent.reclaims.gone(EMBEDDER);
        throw error;
      }
      agent.reclaims.gone(EMBEDDER);
    }
    begun ??= noteBegun(agent, call, beforeMb, null);
    // One that came by a former agent's move is to be probed.
    if (agent.embedder.proof() === null) await agent.embedder.verify(signal);
    const embeddings = agent.embedder.proof();
    const movedAt = agent.now();
    await reclaimed(agent, EMBEDDER, signal);
    const after = await sampleNow(agent, signal);
    const ms = Math.round(agent.now() - startedAt);
    if (toGpu) learnFootprint(agent, step.to, beforeMb[step.to] ?? null, after[step.to] ?? null, ms);
    const proof: Proof = {
      beforeMb,
      afterMb: after,
      reclaimMs: old?.gpu ? Math.round(agent.now() - movedAt) : null,
      by: `${embeddings}${old?.gpu ? `; ${agent.reclaims.proof(EMBEDDER) ?? ''}` : ''}`,
    };
    agent.setError(EMBEDDER, null);
    tell(agent, EMBEDDER, begun, proof, ms);
    return { acted: true, proof };
  } catch (error) {
    const begun = agent.unfinished.of(EMBEDDER);
    const hasMoved = (agent.embedder.process()?.gpu ?? CPU) === step.to;
    const embeddings = agent.embedder.proof();
    if (begun?.kind === 'move' && hasMoved && embeddings !== null) {
      followProof(agent, EMBEDDER, begun, `${embeddings}; ${CUT_SHORT}`);
    } else if (begun?.kind === 'move') agent.unfinished.end(EMBEDDER, begun);
    throw error;
  } finally {
    sparse();
  }
}

function noteBegun(
  agent: Agent,
  { step, operation }: StepCall,
  beforeMb: Proof['beforeMb'],
  from: string | null,
): Begun {
  return agent.unfinished.begin(EMBEDDER, {
    kind: 'move',
    workflowId: operation.workflowId,
    sequence: agent.journal.lastSequence(),
    beforeMb,
    from,
    to: step.kind === 'move' ? step.to : null,
    reclaim: agent.reclaims.stored(EMBEDDER),
  });
}

/** By the driver's list where the process is on it, else by the difference. */
function learnFootprint(agent: Agent, gpu: string, beforeMb: number | null, afterMb: number | null, ms: number): void {
  const pid = agent.embedder.process()?.pid;
  const listed = agent.sampler.latest().processes?.find((one) => one.pid === pid && one.uuid === gpu)?.usedMb ?? null;
  const difference = beforeMb !== null && afterMb !== null ? afterMb - beforeMb : null;
  const chargeMb = listed ?? (difference !== null && difference > 0 ? difference : null);
  if (chargeMb !== null) learn(agent, EMBEDDER, [gpu], { chargeMb, peakMb: chargeMb, loadMs: ms });
}
