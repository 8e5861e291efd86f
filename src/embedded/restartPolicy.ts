/** When a child that died is started again. Pure. */

export interface RestartPolicy {
  /** The wait after the first death; each further one doubles it. */
  firstMs: number;
  maxMs: number;
  /** A child that lived for so long starts counting anew. */
  healthyMs: number;
  /** So many deaths in a row, each before `healthyMs`, and it is given up. */
  maxQuickDeaths: number;
}

/** Six quick deaths take about 15 s: long enough for a port to come free, short enough to watch. */
export const RESTART_POLICY: RestartPolicy = { firstMs: 500, maxMs: 30_000, healthyMs: 30_000, maxQuickDeaths: 6 };

/**
 * @param quickDeaths deaths in a row before this one
 * @returns the wait and the new count, or that it is given up
 */
export function nextRestart(
  quickDeaths: number,
  livedMs: number,
  policy: RestartPolicy,
): { delayMs: number; quickDeaths: number } | 'give-up' {
  const deaths = livedMs >= policy.healthyMs ? 1 : quickDeaths + 1;
  if (deaths >= policy.maxQuickDeaths) return 'give-up';
  return { delayMs: Math.min(policy.maxMs, policy.firstMs * 2 ** (deaths - 1)), quickDeaths: deaths };
}
