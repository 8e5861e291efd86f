/** When a service that died, or did not come up, while it was wanted is started again (P8). Pure. */
import { isService } from '../contracts/names.js';
import type { OperationOutcome } from '../contracts/operation.js';

/** The wait before the first restart; each further one doubles it. */
export const FIRST_RESTART_MS = 1_000;
export const LONGEST_RESTART_MS = 60_000;
/** A service that was healthy for so long begins anew: what was wrong is over. */
export const HEALED_MS = 300_000;

/**
 * @param restarts since the service was last healthy for five minutes, before this one
 * @param healthyForMs how long the run that died was ready without a break until its end; 0 when it never was
 * @returns the wait before this restart, and the new count
 */
export function nextRestart(restarts: number, healthyForMs: number): { delayMs: number; restarts: number } {
  const before = healthyForMs >= HEALED_MS ? 0 : restarts;
  return { delayMs: Math.min(LONGEST_RESTART_MS, FIRST_RESTART_MS * 2 ** before), restarts: before + 1 };
}

/**
 * True of an operation that failed by a service: the agent that concluded it holds that service back, so the host need
 * not wait before it restores others.
 */
export const isHeldBackByAgent = ({ failedTenant, residency }: OperationOutcome): boolean =>
  failedTenant !== null && isService(failedTenant) && residency !== null;
