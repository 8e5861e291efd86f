import type { Agent } from '../agent/agent.js';
import type { AgentActivities, StepCall } from '../contracts/activities.js';
import { FAILURE } from '../contracts/failures.js';
import { CPU, reservationTenant, tenantName } from '../contracts/names.js';
import { sharesOf } from '../domain/planner/leases.js';
import { attemptMs, LEASE_GRACE_MS } from '../domain/timeouts.js';
import { attempt, beating, type StepResult } from './attempt.js';
import { failure } from './failures.js';
import { freeMbOf, usedMbOf } from './vram.js';

type Activities = Pick<
  AgentActivities,
  'grantReservation' | 'endReservation' | 'releaseReservation' | 'readReservation' | 'renewReservation'
>;

export function createReservationActivities(agent: Agent): Activities {
  const contextOf = ({ step }: StepCall) => ({
    otherwise: FAILURE.leaseFailed,
    timeout: FAILURE.leaseFailed,
    timeoutMs: attemptMs(step, agent.policy),
  });
  return {
    grantReservation: (call) => attempt(agent, call, contextOf(call), () => Promise.resolve(grant(agent, call))),
    endReservation: (call) => attempt(agent, call, contextOf(call), (signal) => end(agent, call, signal)),
    releaseReservation: (lease, reason) => beating(() => Promise.resolve(tellEnd(agent, lease, reason))),
    readReservation: (lease) => beating(() => Promise.resolve(agent.reservations.get(lease))),
    renewReservation: (lease, ttlSeconds) =>
      beating(() => {
        const known = agent.reservations.get(lease);
        if (known === null) return Promise.resolve(null);
        const renewed = { ...known, ttlSeconds, expiresAtMs: Date.now() + ttlSeconds * 1000 };
        agent.reservations.put(renewed);
        return Promise.resolve(renewed);
      }),
  };
}

function grant(agent: Agent, { step, goal, operation }: StepCall): StepResult {
  if (goal.kind !== 'lease' || step.kind !== 'load') throw failure(FAILURE.leaseFailed, 'this step is of no lease');
  const { request } = goal;
  const beforeMb = usedMbOf(agent.sampler.latest());
  const proof = { beforeMb, afterMb: beforeMb, reclaimMs: null };
  if (agent.reservations.get(request.id) !== null) return { acted: false, proof: { ...proof, by: 'it has it' } };
  const gpus = step.devices.filter((device) => device !== CPU);
  const known = agent.observation().devices.filter(({ id }) => id !== CPU);
  const shares = sharesOf(request, known, agent.policy.reserveMb);
  const chargesMb = Object.fromEntries(
    known.flatMap(({ id }, at) => (gpus.includes(id) ? [[id, shares[at] ?? 0] as const] : [])),
  );
  const chargeMb = Object.values(chargesMb).reduce((sum, mb) => sum + mb, 0);
  if (agent.options.readerKind === 'nvidia-smi') {
    for (const [gpu, mb] of Object.entries(chargesMb)) {
      const free = freeMbOf(agent.sampler.latest(), [gpu]);
      if (free !== null && free >= mb) continue;
      const is = `${free ?? 'an unknown number of'} MB are`;
      throw failure(FAILURE.premiseGone, `${mb} MB were to be free on ${gpu}, ${is}`);
    }
  }
  const now = Date.now();
  const expiresAtMs = now + request.ttlSeconds * 1000;
  agent.reservations.put({
    ...request,
    gpus,
    chargeMb,
    chargesMb,
    grantedAtMs: now,
    expiresAtMs,
    revokedUntilMs: null,
  });
  agent.journal.append({
    type: 'lease_granted',
    subject: step.tenant,
    message: `${request.holder} has ${chargeMb} MB until ${new Date(expiresAtMs).toISOString()}`,
    workflowId: operation.workflowId,
    details: { ...request, gpus },
  });
  return { acted: true, proof: { ...proof, by: `${chargeMb} MB are kept free for it` } };
}

/** For something of higher priority: its holder is asked, and has a grace. */
async function end(agent: Agent, { step, operation }: StepCall, signal: AbortSignal): Promise<StepResult> {
  const id = tenantName(step.tenant);
  const { reservations } = agent;
  const beforeMb = usedMbOf(agent.sampler.latest());
  const known = reservations.get(id);
  const result = (by: string, acted: boolean): StepResult => ({
    acted,
    proof: { beforeMb, afterMb: usedMbOf(agent.sampler.latest()), reclaimMs: null, by },
  });
  if (known === null) return result('it has nothing', false);
  const untilMs = known.revokedUntilMs ?? Date.now() + LEASE_GRACE_MS;
  reservations.put({ ...known, revokedUntilMs: untilMs });
  // Not again what an attempt that was cut short has told.
  const { workflowId } = operation;
  const told = agent.journal.read({ types: ['lease_revoked'] });
  if (!told.some((entry) => entry.subject === step.tenant && entry.workflowId === workflowId)) {
    const message = `${known.holder} is asked to give back ${known.chargeMb} MB: ${step.why}`;
    agent.journal.append({ type: 'lease_revoked', subject: step.tenant, message, workflowId });
  }
  await gone(agent, id, untilMs, signal);
  const inTime = reservations.get(id) === null;
  if (!inTime) tellEnd(agent, id, 'its grace has passed');
  return result(inTime ? 'its holder gave it back' : 'its grace has passed', true);
}

/** Removes it, and says so once. */
function tellEnd(agent: Agent, id: string, reason: string): void {
  const known = agent.reservations.get(id);
  if (known === null) return;
  agent.reservations.remove(id);
  const message = `the lease of ${known.holder} has ended: ${reason}`;
  agent.journal.append({ type: 'lease_ended', subject: reservationTenant(id), message });
}

function gone(agent: Agent, id: string, untilMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (finish: () => void) => () => {
      clearTimeout(timer);
      stop();
      signal.removeEventListener('abort', aborted);
      finish();
    };
    const passed = done(resolve);
    const aborted = done(() => reject(signal.reason as Error));
    const timer = setTimeout(passed, Math.max(0, untilMs - Date.now()));
    const stop = agent.reservations.onChange(() => {
      if (agent.reservations.get(id) === null) passed();
    });
    signal.addEventListener('abort', aborted, { once: true });
    if (signal.aborted) aborted();
  });
}
