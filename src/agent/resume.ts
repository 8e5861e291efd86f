import { CPU, EMBEDDER, isService, tenantName } from '../contracts/names.js';
import type { Agent } from './agent.js';
import { followProof } from './followProof.js';
import { followStart } from './followStart.js';
import { EVENT_OF } from './tell.js';
import type { Begun } from './unfinished.js';

/** For the probe of an embedder that was moved to. */
const PROBE_MS = 10_000;

const CUT_SHORT = 'a former agent was killed while it did this';

/**
 * Takes up what a killed agent had begun and not told of. To be called when this one has looked at what there is, and
 * again when a driver that was away is back: who does not answer lists nothing (law 1).
 * What was not carried out is forgotten: its operation looks again. A load that was is told of by the probe that proves
 * it; an unload, a stop, or a move off a GPU, once a sample shows that the memory is back; a move after a probe (M8), too;
 * a start once the service is ready.
 */
export async function resumeUnfinished(agent: Agent): Promise<void> {
  for (const [tenant, begun] of agent.unfinished.left()) {
    // Another call may have taken it up since.
    if (!agent.unfinished.left().some(([, { id }]) => id === begun.id)) continue;
    const carriedOut = isTold(agent, tenant, begun) ? false : wasCarriedOut(agent, tenant, begun);
    if (carriedOut === 'unknown') continue;
    agent.unfinished.taken(begun);
    if (!carriedOut) agent.unfinished.end(tenant, begun);
    else if (begun.kind === 'move') await resumeMove(agent, begun);
    else if (begun.kind === 'start') followStart(agent, tenant, tenantName(tenant), begun, CUT_SHORT);
    else if (begun.kind !== 'load') follow(agent, tenant, begun, CUT_SHORT);
  }
}

/** Killed between the event and the end of the entry. */
const isTold = ({ journal }: Agent, tenant: string, { kind, sequence, workflowId }: Begun): boolean =>
  journal
    .read({ types: [EVENT_OF[kind]] })
    .some((entry) => entry.sequence > sequence && entry.subject === tenant && entry.workflowId === workflowId);

function wasCarriedOut(agent: Agent, tenant: string, { kind, to }: Begun): boolean | 'unknown' {
  if (kind === 'move') {
    if (agent.embedder.part() === 'starting') return 'unknown';
    const process = agent.embedder.process();
    return process !== null && (process.gpu ?? CPU) === to;
  }
  if (isService(tenant)) {
    const { state } = agent.services.view(tenantName(tenant)).sight;
    return state === 'unknown' ? 'unknown' : (state === 'absent') === (kind === 'stop');
  }
  if (!agent.watch.driver().available) return 'unknown';
  const isListed = agent.watch.resident().some((one) => one.id === tenant);
  return kind === 'load' ? isListed : !isListed;
}

async function resumeMove(agent: Agent, begun: Begun): Promise<void> {
  try {
    await agent.embedder.verify(AbortSignal.timeout(PROBE_MS));
  } catch (error) {
    // The next move, or its revival, replaces it.
    agent.unfinished.end(EMBEDDER, begun);
    const message = `CLIP was moved by a former agent, and its probe fails: ${String(error)}`;
    agent.journal.append({ type: 'warning', subject: EMBEDDER, message });
    return;
  }
  follow(agent, EMBEDDER, begun, `embeddings are valid; ${CUT_SHORT}`);
}

function follow(agent: Agent, tenant: string, begun: Begun, how: string): void {
  agent.reclaims.resume(tenant, begun.reclaim);
  followProof(agent, tenant, begun, how);
}
