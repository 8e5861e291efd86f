/** What the planner knows of leases: over how many GPUs, how much on each, and who has one. */
import type { LeaseRequest } from '../../contracts/lease.js';
import type { DeviceObservation, TenantObservation } from '../../contracts/residency.js';

type Terms = Pick<LeaseRequest, 'mb' | 'on'>;

/** How many GPUs it is over. */
export const gpuCount = ({ on = 1 }: Pick<LeaseRequest, 'on'>): number => (typeof on === 'number' ? on : on.length);

/**
 * What a lease takes on each of these GPUs if it is put there, MB; infinite where it must not be put. A whole GPU is what
 * strangers leave of it; where any will do, it is one of the largest, as many as are asked for.
 */
export function sharesOf(
  { mb, on = 1 }: Terms,
  gpus: Pick<DeviceObservation, 'id' | 'totalMb' | 'foreignMb'>[],
  reserveMb: number,
): number[] {
  const wholes = gpus.map(({ totalMb, foreignMb }) => Math.max(1, (totalMb ?? 0) - reserveMb - (foreignMb ?? 0)));
  const leastMb = typeof on === 'number' ? ([...wholes].sort((a, b) => b - a)[on - 1] ?? 0) : 0;
  return gpus.map(({ id }, at) => {
    if (typeof on !== 'number' && !on.includes(id)) return Number.POSITIVE_INFINITY;
    return mb ?? Math.max(leastMb, wholes[at] ?? 0);
  });
}

/** The least that all of its GPUs together come to, MB. */
export function leastOf(lease: Terms, sharesMb: number[]): number {
  const smallestFirst = sharesMb.filter(Number.isFinite).sort((a, b) => a - b);
  return smallestFirst.slice(0, gpuCount(lease)).reduce((sum, share) => sum + share, 0);
}

/** A tenant for people: of a reservation its holder, too, for its id may be a random one. */
export const calledForPeople = ({ id, lease }: Pick<TenantObservation, 'id' | 'lease'>): string =>
  lease === undefined ? id : `${id} (${lease.holder})`;
