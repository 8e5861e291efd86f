/** What all probes share: one answer in a bounded time, whatever the service does. */
import { timeLimit } from '../timeLimit.js';

/** P2: a health check takes at most this, unless it is configured. */
export const CHECK_TIMEOUT_MS = 10_000;

export interface HealthResult {
  ok: boolean;
  /** One sentence for people: what was seen, or why it is not well. */
  detail: string;
  /** How long the check took, ms. */
  ms: number;
}

export interface HealthProbe {
  /** What it looks for is seen once in a run: it tells that the run became ready, and nothing of it after that. */
  readonly once?: true;
  /** Never rejects for a service that is not well; rejects with the signal's reason when the caller gives up. */
  check(signal: AbortSignal): Promise<HealthResult>;
}

/** @returns what was seen. A failed look is an error, whose message is the detail. */
export type Look = (signal: AbortSignal) => Promise<{ ok: boolean; detail: string }>;

/** @param timeoutMs 10 s by default */
export function createProbe(look: Look, timeoutMs = CHECK_TIMEOUT_MS): HealthProbe {
  return {
    async check(signal) {
      signal.throwIfAborted();
      const begun = performance.now();
      const limit = timeLimit(timeoutMs);
      const bounded = AbortSignal.any([signal, limit]);
      const seen = await Promise.race([look(bounded), aborted(bounded)]).catch((error: unknown) => {
        signal.throwIfAborted();
        const detail = limit.aborted ? `no answer within ${timeoutMs} ms` : messageOf(error);
        return { ok: false, detail };
      });
      return { ...seen, ms: Math.round(performance.now() - begun) };
    },
  };
}

/** Also a look that does not hear its signal ends in time. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

function messageOf(error: unknown): string {
  const { message, code, cause } = error as Error & { code?: string };
  if (message !== '') return message;
  // A connection that failed on several addresses has a code only.
  return code ?? (cause instanceof Error ? cause.message : String(error));
}
