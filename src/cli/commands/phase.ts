import { Command } from 'commander';
import type { Config } from '../../config/schema.js';
import { toHostPolicy } from '../../config/toPolicy.js';
import { tenantName } from '../../contracts/names.js';
import type { PhasePolicy } from '../../contracts/policy.js';
import { SERVICE_STATES, type Status } from '../../contracts/status.js';
import { findPhase } from '../../domain/phases.js';
import { agentClient } from '../agentClient.js';
import { ask } from '../ask.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { suggest } from '../nearest.js';
import { table } from '../output.js';
import { UserError } from '../userError.js';

/** @throws UserError with the nearest names */
export function knownPhase(config: Config, asked: string): PhasePolicy {
  const policy = toHostPolicy(config);
  const phase = findPhase(policy, asked);
  if (phase !== null) return phase;
  const names = policy.phases.map(({ name }) => name);
  const remedy = names.length === 0 ? 'Add it to `phases` in the configuration.' : suggest(asked, names);
  throw new UserError(`The configuration has no phase "${asked}".`, { remedy });
}

/** `vramflow phase list|prepare|status`. */
export function phaseCommand(context: CliContext): Command {
  const phase = new Command('phase').description('prepare a phase: what it lists runs, every other service stops');
  phase
    .command('list')
    .description('the phases of the configuration')
    .action((_options, command: Command) => {
      const { config } = configOf(command, context);
      const phases = toHostPolicy(config).phases.map(({ name, number, services }) => ({
        name,
        number,
        services: services.map(tenantName),
        vram_mb: services.reduce((sum, tenant) => sum + (config.services[tenantName(tenant)]?.vram_mb ?? 0), 0),
      }));
      outputOf(command, context).data({ phases }, (_value, style) =>
        table(
          [
            { title: 'phase' },
            { title: 'number', align: 'right' },
            { title: 'services' },
            { title: 'MB', align: 'right' },
          ],
          phases.map((one) => [
            one.name,
            one.number === null ? '–' : String(one.number),
            one.services.join(', ') || 'none',
            String(one.vram_mb),
          ]),
          style,
        ),
      );
    });
  phase
    .command('prepare')
    .argument('<phase>', 'a phase by its name or number')
    .option('--no-wait', 'start it and return; print its workflow id')
    .description('stop what the phase does not list, wait until the memory is free, start what it lists')
    .action(async (asked: string, options: { wait: boolean }, command: Command) => {
      const { config } = configOf(command, context);
      const { name } = knownPhase(config, asked);
      await ask(config, context, outputOf(command, context), { kind: 'phase', phase: name }, options.wait);
    });
  phase
    .command('status')
    .description('the phase that was prepared last, and whether all of it works')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      const current = status.phase === null ? null : findPhase(toHostPolicy(config), status.phase);
      const services = (current?.services ?? []).map((tenant) => ({
        name: tenantName(tenant),
        state: SERVICE_STATES[status.tenants.find(({ id }) => id === tenant)?.state ?? 'unknown'],
      }));
      const { phase_problem: problem } = status;
      const degraded = problem !== null;
      const answer = { phase: status.phase, number: current?.number ?? null, degraded, problem, services };
      outputOf(command, context).data(answer, (_value, style) => {
        if (status.phase === null) return 'no phase was prepared yet';
        const mark = degraded ? style.yellow(`degraded: ${problem}`) : style.green('ready');
        return [`phase ${status.phase}: ${mark}`, ...services.map(({ name, state }) => `  ${name}: ${state}`)].join(
          '\n',
        );
      });
    });
  return phase;
}
