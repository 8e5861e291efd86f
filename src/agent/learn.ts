/** What the agent learns from what it sees, and that it says so when that is far above what was declared. */
import { EMBEDDER, isService, tenantName } from '../contracts/names.js';
import type { HostPolicy } from '../contracts/policy.js';
import { driftLevel } from '../domain/drift.js';
import type { Agent } from './agent.js';
import type { Footprint } from './learned.js';
import { policyOf } from './observe.js';
import { gpusOf, onGpus } from './observeServices.js';

/** MB by which a service must have grown to be learned anew: less is not worth a write. */
const LEARN_FROM_MB = 64;

/** @param gpus that it was on when that was measured; none: the CPU */
export function learn(agent: Agent, tenant: string, gpus: readonly string[], measured: Footprint): void {
  const declaredMb = declaredOf(agent.policy, tenant);
  const formerMb = agent.learned.mostMb(tenant, declaredMb);
  agent.learned.record(tenant, gpus, { ...measured, ...(declaredMb === undefined ? {} : { declaredMb }) });
  const { chargeMb: seenMb = 0 } = measured;
  if (declaredMb === undefined || driftLevel(declaredMb, seenMb) <= driftLevel(declaredMb, formerMb)) return;
  agent.journal.append({
    type: 'footprint_drift',
    subject: tenant,
    message: `${tenantName(tenant)} takes ${seenMb} MB, but its vram_mb says ${declaredMb}: plans count with what it takes`,
    details: { declaredMb, seenMb, gpus },
  });
}

/** A service that fills at its first use takes more than at its start: the most that it took counts from then on. */
export function learnPeaks(agent: Agent): void {
  // Where nothing is measured (P9), what services hold is only what is declared.
  if (agent.policy.services.length === 0 || agent.options.readerKind === 'declared') return;
  for (const { id, kind, holdings, declaredMb } of agent.observation().tenants) {
    if (kind !== 'service') continue;
    const mb = onGpus(holdings);
    const gpus = gpusOf(holdings);
    const { peakMb = 0 } = agent.learned.get(id, gpus, declaredMb);
    if (mb > peakMb + LEARN_FROM_MB) learn(agent, id, gpus, { chargeMb: mb, peakMb: mb });
  }
}

/** The GPUs that a tenant is on now. */
export const gpusNow = (agent: Agent, tenant: string): string[] =>
  gpusOf(agent.observation().tenants.find(({ id }) => id === tenant)?.holdings ?? []);

/** Nothing for what the configuration does not know. */
function declaredOf(policy: HostPolicy, tenant: string): number | undefined {
  if (tenant === EMBEDDER) return policy.embedder.declaredMb;
  const known = isService(tenant)
    ? policy.services.find(({ name }) => name === tenantName(tenant))
    : policyOf(policy, tenant);
  return known?.declaredMb;
}
