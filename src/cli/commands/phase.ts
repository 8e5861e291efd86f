import { Command } from 'commander';
import { tenantName } from '../../contracts/names.js';
import type { HostPolicy, PhasePolicy } from '../../contracts/policy.js';
import { SERVICE_STATES, type Status } from '../../contracts/status.js';
import { findPhase } from '../../domain/phases.js';
import { agentClient } from '../agentClient.js';
import { ask } from '../ask.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { hostPolicy } from '../hostPolicy.js';
import { suggest } from '../nearest.js';
import { table } from '../output.js';
import { UserError } from '../userError.js';

/** @throws UserError with the nearest names */
export function knownPhase(policy: HostPolicy, asked: string): PhasePolicy {
  const phase = findPhase(policy, asked);
  if (phase !== null) return phase;
  const names = policy.phases.map(({ name }) => name);
  const remedy = names.length === 0 ? HOW_TO_GET_ONE : suggest(asked, names);
  throw new UserError(`The configuration has no phase "${asked}".`, { remedy });
}

const HOW_TO_GET_ONE =
  'Add phases to `phases` in the configuration that the agent starts with; examples/media-pipeline.yaml has some.';

/** `vramflow phase list|prepare|status`. */
export function phaseCommand(context: CliContext): Command {
  const phase = new Command('phase').description('prepare a phase: what it lists runs, every other service stops');
  phase
    .command('list')
    .description('the phases of the configuration')
    .action(async (_options, command: Command) => {
      const policy = await hostPolicy(configOf(command, context).config, context);
      const declaredMb = new Map(policy.services.map((service) => [service.name, service.declaredMb]));
      const phases = policy.phases.map(({ name, number, services }) => ({
        name,
        number,
        services: services.map(tenantName),
        vram_mb: services.reduce((sum, tenant) => sum + (declaredMb.get(tenantName(tenant)) ?? 0), 0),
      }));
      outputOf(command, context).data({ phases }, (_value, style) => {
        if (phases.length === 0) return `There are no phases. ${HOW_TO_GET_ONE}`;
        return table(
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
        );
      });
    });
  phase
    .command('prepare')
    .argument('<phase>', 'a phase by its name or number')
    .option('--no-wait', 'start it and return; print its workflow id')
    .description('stop what the phase does not list, wait until the memory is free, start what it lists')
    .action(async (asked: string, options: { wait: boolean }, command: Command) => {
      const { config } = configOf(command, context);
      const { name } = knownPhase(await hostPolicy(config, context), asked);
      await ask(config, context, outputOf(command, context), { kind: 'phase', phase: name }, options.wait);
    });
  phase
    .command('status')
    .description('the phase that was prepared last, and whether all of it works')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      const current = status.phase === null ? null : findPhase(await hostPolicy(config, context), status.phase);
      const services = (current?.services ?? []).map((tenant) => ({
        name: tenantName(tenant),
        state: SERVICE_STATES[status.tenants.find(({ id }) => id === tenant)?.state ?? 'unknown'],
      }));
      const { phase_problem: problem } = status;
      const degraded = problem !== null;
      const answer = { phase: status.phase, number: current?.number ?? null, degraded, problem, services };
      outputOf(command, context).data(answer, (_value, style) => {
        if (status.phase === null)
          return 'no phase was prepared yet; `vramflow phase prepare <phase>` does, `vramflow phase list` shows them';
        const mark = degraded ? style.yellow(`degraded: ${problem}`) : style.green('ready');
        return [`phase ${status.phase}: ${mark}`, ...services.map(({ name, state }) => `  ${name}: ${state}`)].join(
          '\n',
        );
      });
    });
  return phase;
}
