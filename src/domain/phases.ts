import type { HostPolicy, PhasePolicy } from '../contracts/policy.js';

/** A phase by its name or its number (P3); null: the configuration has none such. */
export function findPhase(policy: Pick<HostPolicy, 'phases'>, asked: string): PhasePolicy | null {
  const byName = policy.phases.find((phase) => phase.name === asked);
  return byName ?? policy.phases.find((phase) => phase.number !== null && String(phase.number) === asked) ?? null;
}
