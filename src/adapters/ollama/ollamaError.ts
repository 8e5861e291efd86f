/** What can go wrong between vramflow and Ollama, sorted so that a caller can decide, and with what to do about it. */

/**
 * - `unavailable`: nobody answers, or the connection broke; Ollama may come back by itself
 * - `http`: Ollama answered with an error of its own; `status` is 200 when it came inside a running stream
 * - `model-missing`: the model is not installed
 * - `out-of-memory`: the model does not fit where Ollama wants to put it
 * - `timeout`: the caller's time was up (an `AbortSignal.timeout`)
 * - `aborted`: the caller gave up
 * - `protocol`: something answered, but not as Ollama does
 */
export type OllamaErrorKind =
  | 'unavailable'
  | 'http'
  | 'model-missing'
  | 'out-of-memory'
  | 'timeout'
  | 'aborted'
  | 'protocol';

export class OllamaError extends Error {
  override readonly name = 'OllamaError';
  readonly kind: OllamaErrorKind;
  /** The HTTP status, or null when there was no answer. */
  readonly status: number | null;
  /** What to do about it, as a sentence; the message ends with it too. */
  readonly remedy: string;

  constructor(kind: OllamaErrorKind, what: string, remedy: string, more: { status?: number; cause?: unknown } = {}) {
    super(`${what}. ${remedy}`, 'cause' in more ? { cause: more.cause } : {});
    this.kind = kind;
    this.status = more.status ?? null;
    this.remedy = remedy;
  }
}

/** Which request went wrong. */
export interface RequestContext {
  endpoint: string;
  /** For the sentence: `load qwen3-vl:8b`. */
  action: string;
  model: string | null;
}

/**
 * Texts that mean "no room". The server gives them as a 500 without a code of their own: its own estimate
 * (`requires more system memory`), the CUDA and ggml allocators', and the newer engine's layout.
 */
const OUT_OF_MEMORY =
  /out of memory|requires more (?:system|gpu) memory|(?:unable|failed) to allocate|memory layout cannot be allocated|insufficient (?:\w+ )?memory/i;

/** An error that Ollama itself reports, by a status or inside a stream. */
export function reportedError(status: number, text: string, request: RequestContext): OllamaError {
  const what = `Ollama at ${request.endpoint} could not ${request.action}: ${text}`;
  if (OUT_OF_MEMORY.test(text)) {
    const remedy = 'Free VRAM by unloading another model, or choose a smaller model or context.';
    return new OllamaError('out-of-memory', what, remedy, { status });
  }
  if (request.model !== null && status === 404 && /model/i.test(text)) {
    return new OllamaError('model-missing', what, `Install it with \`ollama pull ${request.model}\`.`, { status });
  }
  if (status === 503) {
    const remedy = 'Wait until its queue is shorter, or raise OLLAMA_MAX_QUEUE.';
    return new OllamaError('http', what, remedy, { status });
  }
  return new OllamaError('http', what, "Look into Ollama's log (`journalctl -u ollama`) for the cause.", { status });
}

/** An answer that is not Ollama's: a proxy's page, another program on the port, a body that breaks off. */
export function protocolError(what: string, request: RequestContext, status?: number, cause?: unknown): OllamaError {
  // A proxy that finds nobody behind it: Ollama is away, and may come back.
  const away = status === 502 || status === 503 || status === 504;
  return new OllamaError(
    away ? 'unavailable' : 'protocol',
    `The server at ${request.endpoint} could not ${request.action}: ${what}`,
    away
      ? 'Start Ollama behind this proxy, or point ollama_endpoint at Ollama itself.'
      : 'Check that ollama_endpoint names an Ollama server, and that its version is 0.6 or newer.',
    { ...(status === undefined ? {} : { status }), ...(cause === undefined ? {} : { cause }) },
  );
}

/** A stream that ended without its last line, as 0.6.5 does when the model has repeated one token 31 times. */
export function cutOffError(request: RequestContext, cause: unknown): OllamaError {
  return new OllamaError(
    'protocol',
    `Ollama at ${request.endpoint} broke off when asked to ${request.action}`,
    'Ask again; if it repeats, try another prompt or temperature, and look for a crash in the log of Ollama.',
    { status: 200, cause },
  );
}

/** The caller's signal ended the request. */
export function abortError(reason: unknown, request: RequestContext): OllamaError {
  if (reason instanceof Error && reason.name === 'TimeoutError') {
    return new OllamaError(
      'timeout',
      `Ollama at ${request.endpoint} took too long to ${request.action}; the request was cancelled`,
      'Raise the timeout if the model is large or the disk slow; if Ollama hangs, restart it.',
      { cause: reason },
    );
  }
  return new OllamaError(
    'aborted',
    `The request to ${request.action} was cancelled before Ollama at ${request.endpoint} ended it`,
    'Ask again if it is still wanted.',
    { cause: reason },
  );
}

/** Any failure of a request whose signal has not fired. */
export function transportError(error: unknown, request: RequestContext): OllamaError {
  if (error instanceof OllamaError) return error;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : null;
  // undici's word for a connection that ended within an answer.
  const brokeOff = error instanceof TypeError && error.message === 'terminated';
  if (!brokeOff && (code === null || code.startsWith('HPE_'))) {
    // No HTTP at all, a body that is no JSON, a shape that is not Ollama's, a stream that ended without its last line.
    return protocolError(messageOf(cause), request, undefined, error);
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    const what = `The name of the Ollama server ${request.endpoint} cannot be resolved (${code})`;
    return new OllamaError('unavailable', what, 'Check ollama_endpoint and the name service.', { cause: error });
  }
  if (code === 'ECONNREFUSED') {
    const what = `No Ollama server listens at ${request.endpoint}`;
    return new OllamaError('unavailable', what, 'Start it with `ollama serve`, or correct ollama_endpoint.', {
      cause: error,
    });
  }
  const what = `The connection to Ollama at ${request.endpoint} broke while it was to ${request.action} (${messageOf(cause)})`;
  return new OllamaError('unavailable', what, 'Check that Ollama still runs; it may have crashed or been restarted.', {
    cause: error,
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
