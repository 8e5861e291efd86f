/** What goes wrong with the embedder, with what to do about it (P10). */

export type EmbedderErrorKind =
  | 'part-missing'
  | 'start-failed'
  | 'no-cuda'
  | 'out-of-memory'
  | 'bad-input'
  | 'timeout'
  | 'gone'
  | 'protocol';

const REMEDY: Record<EmbedderErrorKind, string> = {
  'part-missing': 'Install the CLIP part: vramflow clip install',
  'start-failed': 'Check clip_model in the configuration, then ask for the move again: vramflow clip move cpu',
  'no-cuda':
    'CLIP on the GPU needs an NVIDIA driver, the CUDA 12 runtime with cuDNN 9, and `vramflow clip install` run on this machine. It works on the CPU meanwhile.',
  'out-of-memory':
    'Unload a model first (vramflow model ps shows them), or keep CLIP on the CPU: vramflow clip move cpu',
  'bad-input': 'Give texts as strings and images as PNG or JPEG files.',
  timeout: 'Look at the load of the machine, then try again; a longer time can be configured.',
  gone: 'Start the embedder again: vramflow clip move cpu',
  protocol: 'Check that clip.command and the installed part are of the same version as vramflow.',
};

export class EmbedderError extends Error {
  override readonly name = 'EmbedderError';
  readonly remedy: string;
  constructor(
    readonly kind: EmbedderErrorKind,
    message: string,
    options?: ErrorOptions & { remedy?: string },
  ) {
    super(message, options);
    this.remedy = options?.remedy ?? REMEDY[kind];
  }
}

/** Pure: names the cause of a start that failed, from the words that the process left. */
export function startFailureKind(device: 'cpu' | 'cuda', message: string): EmbedderErrorKind {
  if (/part-missing|Cannot find module '@huggingface\/transformers'/.test(message)) return 'part-missing';
  if (/out of memory|failed to allocate memory|ALLOC_FAILED|bad_alloc/i.test(message)) return 'out-of-memory';
  if (device === 'cuda' && /cuda|cudnn|cublas|unsupported device|no gpu/i.test(message)) return 'no-cuda';
  return 'start-failed';
}

/** The error for an abort: a deadline that passed is a `timeout`, anything else is the caller's own reason. */
export function abortError(signal: AbortSignal, doing: string): unknown {
  const reason: unknown = signal.reason;
  const deadline = reason instanceof Error && reason.name === 'TimeoutError';
  return deadline ? new EmbedderError('timeout', `${doing} took longer than allowed.`, { cause: reason }) : reason;
}
