/** The state of a service (P2), from its runs and its health checks. Pure: the caller gives each event its time. */

export type ServiceState = 'stopped' | 'starting' | 'ready' | 'unhealthy' | 'stopping' | 'failed';

export interface HealthPolicy {
  /** Failed checks of a run that was not ready yet count only after this, ms. */
  startPeriodMs: number;
  /** From the end of a check to the next, ms. */
  intervalMs: number;
  /** So many failures in a row make a service unhealthy; at least 1. */
  failuresToUnhealthy: number;
  /** So many successes in a row make it ready; at least 1. */
  successesToReady: number;
}

/** P2: a start takes at most 120 s. Three failures, 30 s, are more than one slow answer of a busy service. */
export const HEALTH_POLICY: HealthPolicy = {
  startPeriodMs: 120_000,
  intervalMs: 10_000,
  failuresToUnhealthy: 3,
  successesToReady: 1,
};

/** While somebody waits for the start of a service, it is asked more often. */
const STARTING_INTERVAL_MS = 500;

export interface ServiceHealth {
  state: ServiceState;
  /** When the state began, on the caller's clock, ms. */
  sinceMs: number;
  /** When the run began; null without one. */
  runSinceMs: number | null;
  /** Whether this run has been ready. */
  wasReady: boolean;
  /** In a row, up to now; at most one of the two is above 0. */
  successes: number;
  failures: number;
  /** What the last check or the last end said. */
  detail: string | null;
}

/**
 * `atMs` is of one clock, which never goes back. `started` of a run that is found running has the time of its start:
 * it gets no second start period. `stopping`: somebody wants it to end.
 */
export type HealthEvent =
  | { kind: 'started'; atMs: number }
  | { kind: 'checked'; atMs: number; ok: boolean; detail: string }
  | { kind: 'stopping'; atMs: number }
  | { kind: 'ended'; atMs: number; detail: string };

export const unstarted = (atMs: number): ServiceHealth => ({
  state: 'stopped',
  sinceMs: atMs,
  runSinceMs: null,
  wasReady: false,
  successes: 0,
  failures: 0,
  detail: null,
});

/** An end that nobody asked for is `failed`. What is told of a service that does not run changes nothing. */
export function afterHealthEvent(health: ServiceHealth, event: HealthEvent, policy: HealthPolicy): ServiceHealth {
  const { atMs } = event;
  switch (event.kind) {
    case 'started':
      return { ...unstarted(atMs), state: 'starting', runSinceMs: atMs };
    case 'stopping':
      return isRunning(health) ? entering('stopping', health, atMs) : health;
    case 'ended': {
      if (health.runSinceMs === null) return health;
      const state = health.state === 'stopping' ? 'stopped' : 'failed';
      return { ...unstarted(atMs), state, detail: event.detail };
    }
    case 'checked':
      return isRunning(health) ? afterCheck(health, event, policy) : health;
  }
}

/** Milliseconds from the end of a check to the next; null when there is nothing to check. */
export function nextCheckInMs(health: ServiceHealth, policy: HealthPolicy): number | null {
  if (!isRunning(health)) return null;
  return health.state === 'starting' ? Math.min(STARTING_INTERVAL_MS, policy.intervalMs) : policy.intervalMs;
}

function isRunning({ state }: ServiceHealth): boolean {
  return state === 'starting' || state === 'ready' || state === 'unhealthy';
}

function afterCheck(
  health: ServiceHealth,
  { ok, detail, atMs }: { ok: boolean; detail: string; atMs: number },
  policy: HealthPolicy,
): ServiceHealth {
  if (ok) {
    const next = { ...health, detail, successes: health.successes + 1, failures: 0 };
    return next.successes >= policy.successesToReady ? { ...entering('ready', next, atMs), wasReady: true } : next;
  }
  const excused = !health.wasReady && atMs - (health.runSinceMs ?? atMs) < policy.startPeriodMs;
  const next = { ...health, detail, successes: 0, failures: excused ? 0 : health.failures + 1 };
  return next.failures >= policy.failuresToUnhealthy ? entering('unhealthy', next, atMs) : next;
}

function entering(state: ServiceState, health: ServiceHealth, atMs: number): ServiceHealth {
  return health.state === state ? health : { ...health, state, sinceMs: atMs };
}
