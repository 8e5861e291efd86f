/** What a random sequence is made of: moments, each a few actions at once, and whom it waits for afterwards. */
import fc from 'fast-check';

/** Models are named by their place in the host's list, so that one sequence fits every host; 0 is the VLM. */
export type Action =
  | { do: 'mode'; mode: 'idle' | 'recording' | 'autopilot'; via: 'client' | 'signal'; priority: number }
  | { do: 'load' | 'unload'; model: number; priority: number }
  | { do: 'clip'; device: 'cpu' | 'cuda' }
  | { do: 'generate'; model: number; leaves: boolean }
  | { do: 'embed' }
  | { do: 'cancel' }
  | { do: 'direct'; what: 'generate' | 'unload'; model: number }
  | { do: 'foreign'; what: 'come' | 'grow' | 'go'; share: number }
  | { do: 'fault'; name: string; params: Record<string, string | number> }
  | { do: 'clear-faults' }
  | { do: 'ollama'; what: 'stop' | 'stop-with-orphans' | 'start' | 'crash-runner' };

export interface Moment {
  actions: Action[];
  next: 'wait-for-all' | 'wait-for-one' | 'go-on';
}

export interface Sequence {
  /** Nobody but vramflow and quiet strangers touch the host: then the strictest judgement holds. */
  calm: boolean;
  moments: Moment[];
}

export const MODELS = 3;

const model = fc.nat(MODELS - 1).map((n) => (n === 1 ? 0 : n));
const exact = (action: Action): fc.Arbitrary<Action> => fc.constant(action);

/** Who waits is served by priority, then arrival (M11). A signal has that of its host. */
const priority = fc.constantFrom(50, 50, 50, 20, 80);

const caller: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('mode' as const),
      mode: fc.constantFrom('idle' as const, 'recording' as const, 'autopilot' as const, 'recording' as const),
      via: fc.constantFrom('client' as const, 'client' as const, 'signal' as const),
      priority,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('load' as const, 'unload' as const), model: fc.nat(2), priority }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('clip' as const), device: fc.constantFrom('cpu', 'cuda') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('generate' as const), model, leaves: fc.boolean() }) },
  { weight: 1, arbitrary: exact({ do: 'embed' }) },
  { weight: 1, arbitrary: exact({ do: 'cancel' }) },
) as fc.Arbitrary<Action>;

const stranger: fc.Arbitrary<Action> = fc.record({
  do: fc.constant('foreign' as const),
  what: fc.constantFrom('come' as const, 'grow' as const, 'go' as const),
  share: fc.integer({ min: 5, max: 60 }).map((percent) => percent / 100),
});

/** Durations are simulated milliseconds; a fault with neither count nor duration stays until it is cleared. */
const FAULTS: { name: string; params: Record<string, string | number> }[] = [
  { name: 'ollama-unavailable', params: { durationMs: 8_000 } },
  { name: 'ollama-unavailable', params: {} },
  { name: 'ollama-http-error', params: { count: 2, status: 500 } },
  { name: 'ollama-slow', params: { ms: 1_500, durationMs: 12_000 } },
  { name: 'load-fail', params: { times: 1 } },
  { name: 'load-fail', params: { times: 3 } },
  { name: 'load-fail', params: {} },
  { name: 'load-hang', params: { count: 1 } },
  { name: 'load-slow', params: { factor: 3, count: 1 } },
  { name: 'unload-ignored', params: { count: 1 } },
  { name: 'memory-held', params: { count: 1 } },
  { name: 'reclaim-slow', params: { ms: 8_000, durationMs: 20_000 } },
  { name: 'generate-hang', params: { count: 1 } },
  { name: 'partial-offload', params: { count: 1 } },
  { name: 'runner-crash', params: { count: 1 } },
  { name: 'smi-na', params: { durationMs: 15_000 } },
  { name: 'smi-err', params: {} },
  { name: 'smi-gpu-lost', params: { durationMs: 15_000 } },
  { name: 'smi-cut-lines', params: { durationMs: 15_000 } },
  { name: 'smi-hang', params: { durationMs: 15_000 } },
  { name: 'embedder-fail', params: { when: 'start', count: 1 } },
  { name: 'embedder-wrong', params: { kind: 'not-finite', count: 1 } },
  { name: 'embedder-slow', params: { ms: 5_000, count: 1 } },
];

const disturbance: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.constantFrom(...FAULTS).map((fault): Action => ({ do: 'fault', ...fault })),
  },
  { weight: 2, arbitrary: exact({ do: 'clear-faults' }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('direct' as const), what: fc.constantFrom('generate', 'unload'), model }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('ollama' as const),
      what: fc.constantFrom('stop', 'stop-with-orphans', 'start', 'start', 'crash-runner'),
    }),
  },
) as fc.Arbitrary<Action>;

const momentOf = (action: fc.Arbitrary<Action>): fc.Arbitrary<Moment> =>
  fc.record({
    actions: fc.array(action, { minLength: 1, maxLength: 4 }),
    next: fc.constantFrom('wait-for-all' as const, 'wait-for-one' as const, 'go-on' as const),
  });

const calmMoment = momentOf(
  fc.oneof<fc.WeightedArbitrary<Action>[]>({ weight: 6, arbitrary: caller }, { weight: 1, arbitrary: stranger }),
);
const wildMoment = momentOf(
  fc.oneof<fc.WeightedArbitrary<Action>[]>(
    { weight: 6, arbitrary: caller },
    { weight: 1, arbitrary: stranger },
    { weight: 3, arbitrary: disturbance },
  ),
);

const sequence: fc.Arbitrary<Sequence> = fc.oneof(
  fc.record({ calm: fc.constant(true), moments: fc.array(calmMoment, { minLength: 2, maxLength: 5 }) }),
  fc.record({ calm: fc.constant(false), moments: fc.array(wildMoment, { minLength: 2, maxLength: 5 }) }),
);

/** The same seed gives the same sequence. */
export function sequenceOf(seed: number): Sequence {
  const [drawn] = fc.sample(sequence, { seed, numRuns: 1 });
  if (drawn === undefined) throw new Error('fast-check drew nothing');
  return drawn;
}

export const describeSequence = ({ calm, moments }: Sequence): string =>
  [
    calm ? 'calm' : 'wild',
    ...moments.map(
      (moment) => `  ${moment.actions.map((action) => JSON.stringify(action)).join(' ')} → ${moment.next}`,
    ),
  ].join('\n');
