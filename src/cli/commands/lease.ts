import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { LEASE_LIMITS, type LeaseRequest, type LeaseState } from '../../contracts/lease.js';
import { createLeases, LeaseProblem, type Leases } from '../../gateway/leases.js';
import type { CliContext } from '../context.js';
import { Exit, exitWith } from '../exit.js';
import { EXIT, type ExitCode } from '../exitCodes.js';
import { configOf, outputOf } from '../globalOptions.js';
import type { Output } from '../output.js';
import { table } from '../output.js';
import { temporalClient } from '../temporal.js';
import { UserError } from '../userError.js';

const { priority, ttlSeconds } = LEASE_LIMITS;
const LOOK_MS = 300;
/** `lease run` renews this many times within the time to live. */
const RENEWALS = 3;
/** From SIGTERM to SIGKILL of the command of a revoked lease; below the grace that it has. */
const TERM_MS = 7_000;

interface AcquireOptions {
  id?: string;
  holder?: string;
  mb?: number;
  gpu?: string;
  priority: number;
  ttl: number;
  pid?: number;
  wait: boolean;
}

const whole =
  ({ least, most }: { least: number; most: number }) =>
  (text: string) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
  };

/** `vramflow lease acquire|renew|release|list|run`. */
export function leaseCommand(context: CliContext): Command {
  const lease = new Command('lease').description('keep VRAM free for a program that vramflow does not start');
  const withTerms = (command: Command) =>
    command
      .option('--mb <mb>', 'MB of VRAM; without it a whole GPU', whole(LEASE_LIMITS.mb))
      .option('--gpu <uuid>', 'on this GPU only')
      .option('--id <id>', 'its name; by default a new one')
      .option('--holder <text>', 'who has it, for people')
      .option('--priority <n>', 'higher wins, as of services', whole(priority), priority.default)
      .option(
        '--ttl <seconds>',
        'it ends by itself so long after its grant or last renewal',
        whole(ttlSeconds),
        ttlSeconds.default,
      );
  const inSession = async <T>(command: Command, work: (leases: Leases, output: Output) => Promise<T>): Promise<T> => {
    const { config } = configOf(command, context);
    const client = await temporalClient(config);
    try {
      return await work(createLeases(client, config.host), outputOf(command, context));
    } catch (error) {
      if (!(error instanceof LeaseProblem)) throw error;
      throw new UserError(error.message, { remedy: error.remedy, cause: error });
    } finally {
      await client.connection.close();
    }
  };
  withTerms(lease.command('acquire'))
    .description('ask for a lease and wait until it is held')
    .option(
      '--pid <pid>',
      'the process that will use it: what it holds is then not counted twice',
      whole(LEASE_LIMITS.pid),
    )
    .option('--no-wait', 'do not wait: print its state')
    .action((options: AcquireOptions, command: Command) =>
      inSession(command, async (leases, output) => {
        const request = requestOf(options);
        await leases.start(request);
        const state = options.wait ? await held(leases, request.id, output) : await leases.state(request.id);
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
            ? 'no leases'
            : table(
                ['lease', 'holder', 'state', 'what', 'priority', 'until'].map((title) => ({ title })),
                found.map((one) => [
                  one.id,
                  one.holder,
                  one.position === null ? one.state : `${one.state}, number ${one.position}`,
                  one.mb === null ? 'a whole GPU' : `${one.mb} MB`,
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
    .description('hold a lease while a command runs; ends with its exit code')
    .action((argv: string[], options: AcquireOptions, command: Command) =>
      inSession(command, async (leases, output) => {
        const request = { ...requestOf({ ...options, pid: process.pid }), holder: options.holder ?? argv.join(' ') };
        await leases.start(request);
        const state = await held(leases, request.id, output);
        if (state.state !== 'held') {
          output.data(state, describe);
          throw new Exit(EXIT.refused);
        }
        throw new Exit((await runHolding(leases, request, argv, output)) as ExitCode);
      }),
    );
  return lease;
}

function requestOf({
  id = randomUUID().slice(0, 8),
  holder,
  mb,
  gpu,
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
    gpu: gpu ?? null,
    priority,
    ttlSeconds: ttl,
    pid: pid ?? null,
  };
}

/** Until it is held, or ended before. Ctrl-C gives it back. */
async function held(leases: Leases, id: string, output: Output): Promise<LeaseState> {
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort(new Exit(EXIT.interrupted));
  process.once('SIGINT', interrupt);
  let said = '';
  try {
    return await leases.settled(id, {
      signal: interrupted.signal,
      onLook({ position, reason }) {
        const news = `waits${position === null ? '' : `, number ${position}`}: ${reason ?? 'for its turn'}`;
        if (news !== said) output.talk(`  lease ${id} ${news}`);
        said = news;
      },
    });
  } finally {
    process.off('SIGINT', interrupt);
  }
}

/** Runs the command, renews meanwhile, ends it when the lease is revoked, and gives the lease back. */
async function runHolding(leases: Leases, { id, ttlSeconds }: LeaseRequest, argv: string[], output: Output) {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { stdio: 'inherit' });
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', (error) =>
      reject(new UserError(`${program} cannot be started: ${error.message}`, { cause: error })),
    );
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? EXIT.interrupted : EXIT.failed)));
  });
  const forward = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, forward);
  const over = new AbortController();
  const watching = (async () => {
    let renewAt = Date.now() + (ttlSeconds * 1000) / RENEWALS;
    while (!over.signal.aborted) {
      await pause(LOOK_MS);
      const { state } = await leases.state(id);
      if (over.signal.aborted) return;
      if (state !== 'held') {
        output.talk(`  lease ${id} is ${state}: ending ${program}`);
        child.kill('SIGTERM');
        setTimeout(() => child.kill('SIGKILL'), TERM_MS).unref();
        return;
      }
      if (Date.now() < renewAt) continue;
      await leases.renew(id, ttlSeconds);
      renewAt = Date.now() + (ttlSeconds * 1000) / RENEWALS;
    }
  })();
  try {
    // Who cannot renew must not go on as if it held the lease: the command ends with it.
    return await Promise.race([ended, watching.then(() => ended)]);
  } finally {
    over.abort();
    child.kill('SIGTERM');
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, forward);
    await leases.release(id).catch(() => undefined);
  }
}

function describe({ id, state, gpus, mb, expiresAt, reason, epochs }: LeaseState): string {
  const what = mb === null ? 'a whole GPU' : `${mb} MB`;
  if (state === 'ended') return `lease ${id} has ended: ${reason ?? ''}`;
  if (state === 'queued') return `lease ${id} waits for ${what}: ${reason ?? 'for its turn'}`;
  const tokens = gpus.map((gpu) => `${gpu} (epoch ${epochs[gpu] ?? '?'})`);
  return `lease ${id} is ${state}: ${what} on ${tokens.join(', ')} until ${expiresAt ?? '?'}`;
}
