import { CPU, EMBEDDER } from '../contracts/names.js';
import type { HostObservation, Target, TenantObservation, Wish } from '../contracts/residency.js';

/** Which tenant is on which devices, for outcomes and people. */
export function residencyOf(observed: HostObservation): Record<string, string[]> {
  return Object.fromEntries(
    [...observed.tenants]
      .sort((a, b) => a.id.localeCompare(b.id))
      .map((tenant) => [tenant.id, tenant.holdings.map((holding) => holding.device).sort()]),
  );
}

/** Where the embedder is (M10: always one of the two, `cpu` at first). */
export function embedderDevice(observed: HostObservation): 'cpu' | 'cuda' {
  const embedder = observed.tenants.find((tenant) => tenant.id === EMBEDDER);
  return embedder?.holdings.some((holding) => holding.device !== CPU) ? 'cuda' : 'cpu';
}

/**
 * The residency that was, as a target: what a failed operation puts back for the tenants that it touched, as far as they
 * are known still. It displaces nothing that outranks it.
 */
export function formerResidency(former: HostObservation, touched: string[], now: HostObservation): Target {
  const wishes = former.tenants
    .filter(({ id }) => touched.includes(id) && isKnown(now, id))
    .map((tenant): [string, Wish] => [tenant.id, formerWish(tenant)]);
  return { wishes: Object.fromEntries(wishes), because: 'the former residency after a failure', priority: 100 };
}

/** What cannot be put back, for nobody knows it any more: a lease that has ended, a model that others had loaded. */
export const goneSince = (former: HostObservation, touched: string[], now: HostObservation): string[] =>
  former.tenants
    .filter(({ id, holdings }) => touched.includes(id) && holdings.length > 0 && !isKnown(now, id))
    .map(({ id }) => id);

const isKnown = ({ tenants }: HostObservation, tenant: string): boolean => tenants.some(({ id }) => id === tenant);

function formerWish(tenant: TenantObservation): Wish {
  if (tenant.holdings.length === 0) return { place: tenant.kind === 'embedder' ? 'cpu' : 'absent' };
  return tenant.holdings.every((holding) => holding.device === CPU) ? { place: 'cpu' } : { place: 'gpu' };
}
