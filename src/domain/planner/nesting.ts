/** A tenant inside another one, a model in the service that serves Ollama: counted once, ending with the outer one. Pure. */
import { CPU } from '../../contracts/names.js';
import type { HostPolicy, ServicePolicy } from '../../contracts/policy.js';
import type { Holding, TenantObservation } from '../../contracts/residency.js';

/** The service that Ollama runs in; null: it runs outside of ours. */
export const serverOfOllama = ({ services }: Pick<HostPolicy, 'services'>): ServicePolicy | null =>
  services.find(({ serves }) => serves === 'ollama') ?? null;

type Nested = Pick<TenantObservation, 'id' | 'inside' | 'holdings'>;

/** The tenant as part of which this one counts; null: it counts by itself, also in one that takes no VRAM (`vram_mb: 0`). */
export function countedAs({ inside }: Nested, tenants: readonly Nested[]): string | null {
  const outer = inside === undefined ? undefined : tenants.find(({ id }) => id === inside);
  return outer?.holdings.some(({ device }) => device !== CPU) ? outer.id : null;
}

/** What the tenants hold together on a device, MB: nothing twice. */
export const heldOnMb = (tenants: readonly Nested[], device: string): number =>
  tenants
    .filter((tenant) => countedAs(tenant, tenants) === null)
    .flatMap(({ holdings }) => holdings)
    .reduce((total, holding) => total + (holding.device === device ? holding.mb : 0), 0);

/** The outer holds what is inside it, also where its own processes do not show that (yet). */
export function holdingInner(own: Holding[], inner: readonly Pick<TenantObservation, 'holdings'>[]): Holding[] {
  if (!own.some(({ device }) => device !== CPU)) return own;
  const ofInner = new Map<string, number>();
  for (const { device, mb } of inner.flatMap(({ holdings }) => holdings)) {
    if (device !== CPU) ofInner.set(device, (ofInner.get(device) ?? 0) + mb);
  }
  const held = own.map(({ device, mb }) => ({ device, mb: Math.max(mb, ofInner.get(device) ?? 0) }));
  const elsewhere = [...ofInner].filter(([device]) => !own.some((holding) => holding.device === device));
  return [...held, ...elsewhere.map(([device, mb]) => ({ device, mb }))];
}

/** One of the two is inside the other. */
export const isNested = (a: Pick<Nested, 'id' | 'inside'>, b: Pick<Nested, 'id' | 'inside'>): boolean =>
  a.inside === b.id || b.inside === a.id;
