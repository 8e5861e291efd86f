/** What a random sequence about services is made of: moments, each a few actions at once. */
import fc from 'fast-check';

/** Services and phases are named by their place in the host's lists, so that one sequence fits every host. */
export type Action =
  | { do: 'phase'; phase: number }
  | { do: 'service'; verb: 'start' | 'stop' | 'restart'; service: number }
  | { do: 'cancel' }
  | { do: 'kill'; service: number }
  | { do: 'fault'; name: string; service: number; params: Record<string, string | number> }
  | { do: 'slow-reclaim' }
  | { do: 'stranger'; what: 'come' | 'grow' | 'go'; share: number };

export interface Moment {
  actions: Action[];
  next: 'wait-for-all' | 'wait-for-one' | 'go-on';
}

export type Sequence = Moment[];

/** More than any host has: taken modulo its number. */
const PLACES = 11;
const service = fc.nat(PLACES);

/** Durations are simulated milliseconds; a fault with neither count nor duration stays until the sequence ends. */
const FAULTS: { name: string; params: Record<string, string | number> }[] = [
  { name: 'service-fail', params: { count: 1 } },
  { name: 'service-fail', params: {} },
  { name: 'service-deaf', params: { count: 1 } },
  { name: 'service-deaf', params: {} },
  { name: 'service-unhealthy', params: { count: 3 } },
  { name: 'service-unhealthy', params: { durationMs: 12_000 } },
  { name: 'service-crash', params: { count: 1 } },
];

const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('phase' as const), phase: fc.nat(PLACES) }) },
  {
    weight: 7,
    arbitrary: fc.record({
      do: fc.constant('service' as const),
      verb: fc.constantFrom('start' as const, 'start' as const, 'start' as const, 'stop' as const, 'restart' as const),
      service,
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'cancel' as const }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('kill' as const), service }) },
  {
    weight: 3,
    arbitrary: fc
      .record({ fault: fc.constantFrom(...FAULTS), service })
      .map(({ fault, service: at }): Action => ({ do: 'fault', ...fault, service: at })),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'slow-reclaim' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('stranger' as const),
      what: fc.constantFrom('come' as const, 'grow' as const, 'go' as const),
      share: fc.integer({ min: 5, max: 80 }).map((percent) => percent / 100),
    }),
  },
) as fc.Arbitrary<Action>;

const sequence: fc.Arbitrary<Sequence> = fc.array(
  fc.record({
    actions: fc.array(action, { minLength: 1, maxLength: 3 }),
    next: fc.constantFrom('wait-for-all' as const, 'wait-for-one' as const, 'go-on' as const),
  }),
  { minLength: 2, maxLength: 4 },
);

/** The same seed gives the same sequence. */
export function sequenceOf(seed: number): Sequence {
  const [drawn] = fc.sample(sequence, { seed, numRuns: 1 });
  if (drawn === undefined) throw new Error('fast-check drew nothing');
  return drawn;
}

export const describeSequence = (moments: Sequence): string =>
  moments.map(({ actions, next }) => `  ${actions.map((one) => JSON.stringify(one)).join(' ')} → ${next}`).join('\n');
