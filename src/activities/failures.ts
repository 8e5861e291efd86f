/** Errors of adapters and of the agent, as the typed failures of contracts/failures. */
import { ApplicationFailure, CancelledFailure } from '@temporalio/activity';
import { EmbedderError } from '../adapters/clip/embedder.js';
import { OllamaError } from '../adapters/ollama/ollama.js';
import { ProbeFailed } from '../agent/embedderProbe.js';
import { Fenced, NotEntered, StaleEpoch } from '../agent/fence.js';
import { FAILURE, type FailureType } from '../contracts/failures.js';

/** Which failure type an error counts as where its own kind does not decide. */
export interface FailureContext {
  /** For example `LoadFailed`. */
  otherwise: FailureType;
  /** For example `LoadTimeout`. */
  timeout: FailureType;
  timeoutMs: number;
}

/** A failure with a remedy; the workflow decides on retries (M19), so the server never repeats it by itself. */
export const failure = (type: FailureType, message: string, remedy: string | null = null): ApplicationFailure =>
  ApplicationFailure.nonRetryable(message, type, { remedy });

/** @returns what an activity throws instead of `error` */
export function toFailure(error: unknown, context: FailureContext): Error {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  if (error instanceof StaleEpoch) {
    return ApplicationFailure.nonRetryable(error.message, FAILURE.staleEpoch, error.highest);
  }
  if (error instanceof Fenced) return failure(FAILURE.fenced, error.message);
  if (error instanceof NotEntered) return failure(FAILURE.premiseGone, error.message);
  if (error instanceof OllamaError) return fromOllama(error, context);
  if (error instanceof EmbedderError) return fromEmbedder(error, context);
  if (error instanceof ProbeFailed) return failure(context.otherwise, error.message, 'the old device stays in charge');
  if (isTimeout(error)) return timedOut(context);
  return failure(context.otherwise, error instanceof Error ? error.message : String(error));
}

function fromOllama(error: OllamaError, context: FailureContext): ApplicationFailure {
  switch (error.kind) {
    case 'unavailable':
      return failure(FAILURE.driverUnavailable, error.message, error.remedy);
    case 'model-missing':
      return failure(FAILURE.modelMissing, error.message, error.remedy);
    case 'timeout':
    case 'aborted':
      return timedOut(context);
    default:
      return failure(context.otherwise, error.message, error.remedy);
  }
}

function fromEmbedder(error: EmbedderError, context: FailureContext): ApplicationFailure {
  if (error.kind === 'part-missing') return failure(FAILURE.partMissing, error.message, error.remedy);
  if (error.kind === 'timeout') return timedOut(context);
  return failure(context.otherwise, error.message, error.remedy);
}

const timedOut = ({ timeout, timeoutMs }: FailureContext): ApplicationFailure =>
  failure(timeout, `it did not end within ${timeoutMs / 1000} s, and was cancelled`);

export const isTimeout = (error: unknown): boolean => error instanceof Error && error.name === 'TimeoutError';
