/**
 * The frame of the random sequences: several hosts side by side on one Temporal server, each playing its share of the seeds.
 *
 * `VRAMFLOW_SEED` is the first sequence's seed, the others follow; with `VRAMFLOW_SEQUENCES=1` it runs alone. The seed says
 * on which host it runs, too.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { type System, type SystemOptions, startSystem } from '../system/system.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const COUNT = Number(process.env['VRAMFLOW_SEQUENCES'] ?? (SOAK ? 2_000 : 100));
const FIRST_SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000_000);
const SPEED = 12;
/** After so many the rest would only repeat them. */
const ENOUGH_FAILURES = 5;

export interface RandomSequences<Profile, Host extends { system: System }> {
  title: string;
  /** What holds, for the test's name. */
  laws: string;
  /** One for each host. */
  profiles: Profile[];
  host(profile: Profile, start: (options: SystemOptions) => Promise<System>): Promise<Host>;
  /** Plays the sequence of a seed, and says what was wrong with it. */
  play(host: Host, seed: number): Promise<string[]>;
  describe(seed: number): string;
  stop(system: System): Promise<void>;
}

export function testRandomSequences<Profile, Host extends { system: System }>(
  sequences: RandomSequences<Profile, Host>,
): void {
  let temporal: TestServer;
  let hosts: Host[] = [];

  beforeAll(async () => {
    temporal = await startTemporal();
    const begin = (profile: Profile, index: number): Promise<Host> =>
      sequences.host(profile, (options) =>
        startSystem({ speed: SPEED, seed: FIRST_SEED, temporal, sharesControl: index > 0, ...options }),
      );
    const [first, ...others] = sequences.profiles;
    if (first === undefined) throw new Error('there is no host');
    hosts = [await begin(first, 0)];
    hosts.push(...(await Promise.all(others.map((profile, index) => begin(profile, index + 1)))));
  }, 120_000);

  afterAll(async () => {
    // The host whose control worker serves them all goes last.
    for (const { system } of hosts.toReversed()) await sequences.stop(system);
    await temporal.stop();
  }, 120_000);

  describe(sequences.title, () => {
    it(
      `${sequences.laws} hold in ${COUNT} sequences from seed ${FIRST_SEED}`,
      async () => {
        const failures: string[] = [];
        const work = async (host: Host, index: number): Promise<void> => {
          for (let seed = FIRST_SEED; seed < FIRST_SEED + COUNT; seed += 1) {
            if (seed % hosts.length !== index) continue;
            if (failures.length >= ENOUGH_FAILURES) return;
            const problems = await sequences
              .play(host, seed)
              .catch((error: unknown) => [`it broke off: ${String(error)}`]);
            if (problems.length === 0) continue;
            const title = `VRAMFLOW_SEED=${seed} VRAMFLOW_SEQUENCES=1`;
            const failure = [title, sequences.describe(seed), ...problems].join('\n');
            // At once: the run may go on for long, or be ended.
            console.error(failure);
            failures.push(failure);
          }
        };
        await Promise.all(hosts.map(work));
        expect(failures.join('\n\n')).toBe('');
      },
      SOAK ? 4 * 3_600_000 : 12 * 60_000,
    );
  });
}
