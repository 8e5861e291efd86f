/** What is done while Temporal is away: say so at once, wait for a bounded time, say that it is back. */
import { defaultGrpcRetryOptions, type GrpcRetryOptions, isGrpcServiceError } from '@temporalio/client';
import { describeDuration } from './duration.js';

/** `vramflow up` starts a server that died again within seconds. */
export const PATIENCE_MS = 30_000;
/** It is looked for at least so often. */
const MOST_BETWEEN_MS = 1_000;

/** The status codes of gRPC that matter here. */
const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

export function isAway(error: unknown): boolean {
  if (!isGrpcServiceError(error)) return false;
  const code: number = error.code;
  return code === UNAVAILABLE;
}

export interface PatienceOptions {
  address: string;
  say: (line: string) => void;
  patienceMs: number;
  now?: () => number;
}

/** How each call to Temporal is repeated; all calls of a connection share one patience. */
export function patience({ address, say, patienceMs, now = Date.now }: PatienceOptions): GrpcRetryOptions {
  const usual = defaultGrpcRetryOptions();
  let awaySince: number | null = null;
  return {
    delayFunction: (attempt, status) => Math.min(MOST_BETWEEN_MS, usual.delayFunction(attempt, status)),
    retryableDecider(attempt, status) {
      const code: number = status.code;
      if (code === UNAVAILABLE) {
        if (awaySince === null) {
          awaySince = now();
          say(
            `Temporal does not answer at ${address}: waiting for it, at most ${describeDuration(patienceMs)}. What has begun goes on once it answers.`,
          );
        }
        return now() - awaySince < patienceMs;
      }
      // Our own end of a call says nothing of the server.
      if (awaySince !== null && code !== CANCELLED && code !== DEADLINE_EXCEEDED) {
        awaySince = null;
        say('Temporal answers again.');
      }
      return usual.retryableDecider(attempt, status);
    },
  };
}
