/** What a call of nvidia-smi asks for. */
export interface SmiRequest {
  readonly query: 'gpu' | 'compute-apps' | 'list';
  readonly fields: readonly string[];
  readonly header: boolean;
  readonly units: boolean;
  /** Real ms between two outputs; null prints once. */
  readonly everyMs: number | null;
  /** A UUID or an index, or null for all cards. */
  readonly gpu: string | null;
  /** Where the simulator's admin endpoint is. */
  readonly simulator: string;
}

/** Wrong arguments; nvidia-smi prints the message and exits with 2. */
export class SmiUsageError extends Error {
  override readonly name = 'SmiUsageError';
}

/** Reads the arguments that the real program has, and `--simulator <url>` before them. */
export function parseSmiArguments(argv: readonly string[]): SmiRequest {
  const options = new Map<string, string>();
  let list = false;
  for (let i = 0; i < argv.length; i++) {
    const [name, inline] = splitOnce(argv[i] ?? '');
    const key = ALIASES[name] ?? name;
    if (key === '-L') list = true;
    else if (!VALUED.includes(key)) throw new SmiUsageError(`Invalid combination of input arguments: ${name}`);
    else options.set(key, inline ?? argv[++i] ?? '');
  }
  const gpuFields = options.get('--query-gpu');
  const appFields = options.get('--query-compute-apps');
  const fields = gpuFields ?? appFields;
  if (!list && fields === undefined) throw new SmiUsageError('Invalid combination of input arguments.');
  const format = (options.get('--format') ?? '').split(',');
  if (!list && !format.includes('csv')) throw new SmiUsageError('"--format=csv" is needed for a query.');
  const seconds = options.get('--loop');
  const milliseconds = options.get('--loop-ms');
  return {
    query: list ? 'list' : gpuFields === undefined ? 'compute-apps' : 'gpu',
    fields: (fields ?? '').split(',').map((field) => field.trim()),
    header: !format.includes('noheader'),
    units: !format.includes('nounits'),
    everyMs: milliseconds !== undefined ? Number(milliseconds) : seconds !== undefined ? Number(seconds) * 1000 : null,
    gpu: options.get('--id') ?? null,
    simulator: options.get('--simulator') ?? '',
  };
}

const ALIASES: Readonly<Record<string, string>> = {
  '-lms': '--loop-ms',
  '-l': '--loop',
  '-i': '--id',
  '--list-gpus': '-L',
};

const VALUED = ['--query-gpu', '--query-compute-apps', '--format', '--loop-ms', '--loop', '--id', '--simulator'];

function splitOnce(argument: string): [string, string | undefined] {
  const at = argument.indexOf('=');
  return at < 0 ? [argument, undefined] : [argument.slice(0, at), argument.slice(at + 1)];
}
