/** M19: how often a step may be tried, and what a failure of one attempt means. Pure. */
import { FAILURE, type FailureType } from '../contracts/failures.js';

/**
 * - `retry`: counts as one of M19's attempts
 * - `look-again`: the world moved or a worker died; observe and plan anew, not one of M19's attempts
 * - `give-up`: the same call would fail again
 * - `lost-turn`: a newer turn holds the devices; nothing more may be done
 */
export type Verdict = 'retry' | 'look-again' | 'give-up' | 'lost-turn';

const PERMANENT: FailureType[] = [
  FAILURE.modelMissing,
  FAILURE.partMissing,
  FAILURE.partialOffload,
  FAILURE.serviceFailed,
  FAILURE.serviceMissing,
  FAILURE.unknownTenant,
];

/** The agent that took the work shuts down: its death is no attempt either. */
const LOOK_AGAIN: FailureType[] = [FAILURE.premiseGone, FAILURE.driverUnavailable, FAILURE.agentAway];

/** @param type the failure's type; null when a worker died or nobody took the work */
export function verdictOf(type: string | null): Verdict {
  if (type === null || LOOK_AGAIN.some((one) => one === type)) return 'look-again';
  if (type === FAILURE.fenced || type === FAILURE.staleEpoch) return 'lost-turn';
  return PERMANENT.some((permanent) => permanent === type) ? 'give-up' : 'retry';
}

/** Rounds that end without one of M19's attempts are bounded too (law 8). */
export const MAX_LOOK_AGAIN = 12;

/** Milliseconds before attempt `attempt` + 1: 0.25 s, doubled, at most 2 s. */
export const pauseAfter = (attempt: number): number => Math.min(250 * 2 ** (attempt - 1), 2_000);
