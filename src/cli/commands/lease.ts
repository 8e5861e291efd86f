import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { LEASE_LIMITS, type LeaseRequest, type LeaseState } from '../../contracts/lease.js';
import { leaseWords } from '../../domain/lease.js';
import { createLeases, LeaseProblem, type Leases } from '../../gateway/leases.js';
import type { CliContext } from '../context.js';
import { duration } from '../duration.js';
import { Exit, exitWith } from '../exit.js';
import { EXIT, type ExitCode } from '../exitCodes.js';
import { configOf, outputOf } from '../globalOptions.js';
import { patienceOf, runHolding } from '../leaseRun.js';
import { granted, refusedLease, untilHeld, waitOf } from '../leaseWait.js';
import type { Output } from '../output.js';
import { table } from '../output.js';
import { findCommand } from '../program.js';
import { withTemporal } from '../temporal.js';
import { UserError } from '../userError.js';

const { priority, ttlSeconds } = LEASE_LIMITS;

interface AcquireOptions {
  id?: string;
  holder?: string;
  mb?: number;
  gpu?: string[];
  gpus?: number;
  priority: number;
  ttl: number;
  pid?: number;
  wait?: number | boolean;
}

const whole =
  ({ least, most }: { least: number; most: number }) =>
  (text: string) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
  };

const LONGEST = 'wait at most so long, for example 30s or 10m; without it as long as it takes';

/** `vramflow lease acquire|renew|release|list|run`. */
export function leaseCommand(context: CliContext): Command {
  const lease = new Command('lease').description('keep VRAM free for a program that vramflow does not start');
  const withTerms = (command: Command) =>
    command
      .option('--mb <mb>', 'MB of VRAM on each GPU; without it whole ones', whole(LEASE_LIMITS.mb))
      .option('--gpus <n>', 'on so many GPUs: all of them, or it waits; by default one', whole(LEASE_LIMITS.gpus))
      .addOption(
        new Option('--gpu <uuid>', 'on this GPU; again for more of them')
          .argParser((gpu: string, others: string[] | undefined) => [...new Set([...(others ?? []), gpu])])
          .conflicts('gpus'),
      )
      .option('--id <id>', 'its name; by default a new one')
      .option('--holder <text>', 'who has it, for people')
      .option('--priority <n>', 'higher wins, as of services', whole(priority), priority.default)
      .option(
        '--ttl <seconds>',
        'it ends by itself so long after its grant or last renewal',
        whole(ttlSeconds),
        ttlSeconds.default,
      );
  const inSession = <T>(
    command: Command,
    work: (leases: Leases, output: Output) => Promise<T>,
    patienceMs?: number,
  ): Promise<T> => {
    const { config } = configOf(command, context);
    return withTemporal(
      config,
      context,
      (client) => work(createLeases(client, config.host), outputOf(command, context)).catch(asUserError),
      patienceMs,
    );
  };
  withTerms(lease.command('acquire'))
    .description('ask for a lease and wait until it is held')
    .option(
      '--pid <pid>',
      'the process that will use it: what it holds is then not counted twice',
      whole(LEASE_LIMITS.pid),
    )
    .option('--wait <duration>', LONGEST, duration)
    .option('--no-wait', 'do not wait: print its state, and leave it in line')
    .action((options: AcquireOptions, command: Command) =>
      inSession(command, async (leases, output) => {
        const request = requestOf(options);
        await leases.start(request);
        const state =
          options.wait === false
            ? await leases.state(request.id)
            : await untilHeld(leases, request.id, waitOf(options.wait), output);
        output.data(state, describe);
        exitWith(state.state === 'ended' ? EXIT.refused : EXIT.ok);
      }),
    );
  lease
    .command('renew')
    .argument('<id>')
    .option('--ttl <seconds>', 'from now on', whole(ttlSeconds), ttlSeconds.default)
    .description('hold a lease longer')
    .action((id: string, { ttl }: { ttl: number }, command: Command) =>
      inSession(command, async (leases, output) => output.data(await leases.renew(id, ttl), describe)),
    );
  lease
    .command('release')
    .argument('<id>')
    .description('give a lease back')
    .action((id: string, _options, command: Command) =>
      inSession(command, async (leases, output) => {
        await leases.release(id);
        output.data({ id, released: true }, () => `released ${id}`);
      }),
    );
  lease
    .command('list')
    .description('the leases that are held, and those that wait')
    .action((_options, command: Command) =>
      inSession(command, async (leases, output) => {
        const found = await leases.running();
        output.data({ leases: found }, (_value, style) =>
          found.length === 0
            ? 'There are no leases. `vramflow lease run` and `vramflow lease acquire` ask for one.'
            : table(
                ['lease', 'holder', 'state', 'what', 'priority', 'until'].map((title) => ({ title })),
                found.map((one) => [
                  one.id,
                  one.holder,
                  one.position === null ? one.state : `${one.state}, number ${one.position}`,
                  leaseWords(one),
                  String(one.priority),
                  one.expiresAt ?? '–',
                ]),
                style,
              ),
        );
      }),
    );
  withTerms(lease.command('run'))
    .argument('<command...>', 'after --: a program and its arguments')
    .option('--wait <duration>', LONGEST, duration)
    .option('--no-wait', 'do not wait in line: give up where others would have to end first')
    .description('hold a lease while a command runs; ends with its exit code')
    .action((argv: string[], options: AcquireOptions, command: Command) => {
      findCommand(argv[0] ?? '', context);
      const request = { ...requestOf({ ...options, pid: process.pid }), holder: options.holder ?? argv.join(' ') };
      const run = async (leases: Leases, output: Output) => {
        await leases.start(request);
        const state = await untilHeld(leases, request.id, waitOf(options.wait), output);
        if (state.state !== 'held') throw refusedLease(state);
        output.talk(`  ${granted(state)}`);
        throw new Exit((await runHolding(leases, state, argv, context, output)) as ExitCode);
      };
      return inSession(command, run, patienceOf(request.ttlSeconds));
    });
  return lease;
}

function requestOf({
  id = randomUUID().slice(0, 8),
  holder,
  mb,
  gpu,
  gpus = 1,
  priority,
  ttl,
  pid,
}: AcquireOptions): LeaseRequest {
  if (!LEASE_LIMITS.id.test(id))
    throw new UserError(`"${id}" is no good id.`, { remedy: 'Use letters, digits, dots and dashes.' });
  return {
    id,
    holder: holder ?? `the command line on ${hostname()}`,
    mb: mb ?? null,
    on: gpu ?? gpus,
    priority,
    ttlSeconds: ttl,
    pid: pid ?? null,
  };
}

function describe(state: LeaseState): string {
  const { id, reason, remedy } = state;
  if (state.state === 'held') return granted(state);
  if (state.state === 'ended')
    return [`lease ${id} has ended: ${reason ?? ''}`, ...(remedy ? [`  ${remedy}`] : [])].join('\n');
  if (state.state === 'revoked') return `lease ${id} is revoked: give it back`;
  return `lease ${id} waits for ${leaseWords(state)}${reason === null ? '' : `: ${reason}`}`;
}

function asUserError(error: unknown): never {
  if (!(error instanceof LeaseProblem)) throw error;
  const exitCode = error.code === 'unavailable' ? EXIT.unavailable : EXIT.usage;
  throw new UserError(error.message, { exitCode, remedy: error.remedy, cause: error });
}
