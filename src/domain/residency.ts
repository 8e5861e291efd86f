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
 * The residency that was, as a target: what a failed operation puts back for the tenants that it touched.
 * It displaces nothing that outranks it.
 */
export function formerResidency(former: HostObservation, touched: string[]): Target {
  const wishes = former.tenants
    .filter((tenant) => touched.includes(tenant.id))
    .map((tenant): [string, Wish] => [tenant.id, formerWish(tenant)]);
  return { wishes: Object.fromEntries(wishes), because: 'the former residency after a failure', priority: 100 };
}

function formerWish(tenant: TenantObservation): Wish {
  if (tenant.holdings.length === 0) return { place: tenant.kind === 'embedder' ? 'cpu' : 'absent' };
  return tenant.holdings.every((holding) => holding.device === CPU) ? { place: 'cpu' } : { place: 'gpu' };
}
