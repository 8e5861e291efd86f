import { ApplicationFailure, isGrpcServiceError, ServiceError, WorkflowFailedError } from '@temporalio/client';
import { ZodError, z } from 'zod';
import { EmbedderError } from '../adapters/clip/embedder.js';
import { OllamaError } from '../adapters/ollama/ollama.js';
import { ProbeFailed } from './embedderProbe.js';

/** What a caller did wrong, or what is missing, with what to do about it. */
export class RequestProblem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly remedy: string | null,
  ) {
    super(message);
  }
}

export interface ProblemBody {
  code: string;
  message: string;
  remedy: string | null;
}

const NAMED = 'mend what the message names; `GET /openapi.json` of the gateway describes every route and field';
const REMEDIES: Record<number, string> = {
  413: 'send less at a time',
  415: 'send JSON, with `Content-Type: application/json`',
};

/** Every error of the endpoint as a status and a body that says what to do. */
export function problemOf(error: unknown): { status: number; body: ProblemBody } {
  if (error instanceof RequestProblem) return problem(error.status, error.code, error.message, error.remedy);
  if (error instanceof ZodError) return problem(400, 'bad-input', z.prettifyError(error), NAMED);
  if (error instanceof OllamaError) return problem(502, `ollama-${error.kind}`, error.message, error.remedy);
  if (error instanceof EmbedderError) {
    return problem(error.kind === 'bad-input' ? 400 : 503, `clip-${error.kind}`, error.message, error.remedy);
  }
  if (error instanceof ProbeFailed) {
    return problem(503, 'clip-unavailable', error.message, 'vramflow doctor says what CLIP needs');
  }
  if (error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure) {
    const { type, message, details } = error.cause;
    const outcome = details?.[0] as { refusal?: { remedy?: string }; failure?: { remedy?: string } } | undefined;
    return problem(
      409,
      type ?? 'OperationFailed',
      message,
      outcome?.refusal?.remedy ?? outcome?.failure?.remedy ?? null,
    );
  }
  if (error instanceof ServiceError && isAway(error.cause)) {
    const remedy = 'try again in a moment; `vramflow doctor` says what is missing';
    return problem(503, 'unavailable', `Temporal does not answer: ${error.message}`, remedy);
  }
  if (
    error instanceof Error &&
    'statusCode' in error &&
    typeof error.statusCode === 'number' &&
    error.statusCode < 500
  ) {
    return problem(error.statusCode, 'bad-input', error.message, REMEDIES[error.statusCode] ?? NAMED);
  }
  const message = error instanceof Error ? error.message : String(error);
  return problem(500, 'internal', message, 'see the agent’s log');
}

/** gRPC's word for a server that cannot be reached, or that does not answer in time. */
const AWAY = [14, 4];

const isAway = (cause: unknown): boolean => isGrpcServiceError(cause) && AWAY.includes(cause.code);

const problem = (status: number, code: string, message: string, remedy: string | null) => ({
  status,
  body: { code, message, remedy },
});
