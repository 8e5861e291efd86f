/** What can go wrong inside the embedder process, as its protocol names it. */
export type ChildErrorCode = 'bad-input' | 'out-of-memory' | 'internal';

export class ChildError extends Error {
  override readonly name = 'ChildError';
  constructor(
    readonly code: ChildErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** How ONNX Runtime and CUDA word that an allocation failed. */
const OUT_OF_MEMORY = /out of memory|failed to allocate memory|bad_alloc|CUDA_ERROR_OUT_OF_MEMORY|ALLOC_FAILED/i;

export function toChildError(error: unknown): ChildError {
  if (error instanceof ChildError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new ChildError(OUT_OF_MEMORY.test(message) ? 'out-of-memory' : 'internal', message, { cause: error });
}
