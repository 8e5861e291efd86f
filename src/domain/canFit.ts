/** P1: would so much fit now, without stopping anything? Pure. */
import { CPU } from '../contracts/names.js';
import type { HostPolicy } from '../contracts/policy.js';
import type { HostObservation } from '../contracts/residency.js';
import { viewHost } from './planner/hostView.js';

export interface Fit {
  fits: boolean;
  /** By GPU: MB that are free for something new, the reserve kept; null: not known, so nothing fits (law 1). */
  freeMb: Record<string, number | null>;
}

/** On one GPU, whole: a tenant is not split for this answer. */
export function canFit(observed: HostObservation, mb: number, policy: HostPolicy): Fit {
  const { gpus, tenants } = viewHost(observed, policy);
  const freeMb = Object.fromEntries(
    gpus.map(({ id, device, capacityMb, baseMb, problem }, at): [string, number | null] => {
      if (id === CPU || problem !== null || device.totalMb === null) return [id, null];
      const committed = [...tenants.values()].reduce((sum, view) => sum + (view.committedMb[at] ?? 0), 0);
      return [id, Math.max(0, Math.floor(capacityMb - baseMb - committed))];
    }),
  );
  return { fits: Object.values(freeMb).some((free) => free !== null && free >= mb), freeMb };
}
