import { Command, InvalidArgumentError } from 'commander';
import { serviceTenant, tenantName } from '../../contracts/names.js';
import type { HostPolicy } from '../../contracts/policy.js';
import { SERVICE_STATES, type Status } from '../../contracts/status.js';
import { describeTrouble } from '../../domain/describeTrouble.js';
import { agentClient } from '../agentClient.js';
import { ask } from '../ask.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { hostPolicy } from '../hostPolicy.js';
import { suggest } from '../nearest.js';
import { table } from '../output.js';
import { UserError } from '../userError.js';

/** @throws UserError with the nearest names */
export function knownService(policy: HostPolicy, name: string): string {
  const names = policy.services.map((service) => service.name);
  if (names.includes(name)) return name;
  const remedy = names.length === 0 ? HOW_TO_GET_ONE : suggest(name, names);
  throw new UserError(`The configuration has no service "${name}".`, { remedy });
}

const HOW_TO_GET_ONE =
  'Add services to `services` in the configuration that the agent starts with; examples/media-pipeline.yaml has some.';

const WHAT = {
  start: 'make a service run and wait until it is ready; services of lower priority make room',
  stop: 'stop a service and wait until its memory is free',
  restart: 'stop a service and start it again',
} as const;

const lines = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0 || value > 10_000) throw new InvalidArgumentError('Give 0 to 10000 lines.');
  return value;
};

/** `vramflow service list|start|stop|restart|logs`. */
export function serviceCommand(context: CliContext): Command {
  const service = new Command('service').description(
    'start and stop the services of the configuration, and look at them',
  );
  service
    .command('list')
    .description('the services, their states, and what they hold')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      const services = status.tenants
        .filter(({ kind }) => kind === 'service')
        .map((tenant) => ({
          name: tenantName(tenant.id),
          state: SERVICE_STATES[tenant.state],
          driver: tenant.driver,
          priority: tenant.priority,
          vram_mb: tenant.holdings.reduce((sum, { mb }) => sum + mb, 0),
          declared_mb: tenant.declaredMb ?? null,
          seen_mb: tenant.seenMb ?? null,
          charge_mb: tenant.chargeMb,
          charge_source: tenant.chargeSource,
          running_for_ms: tenant.residentForMs,
          trouble: tenant.trouble ?? null,
        }));
      outputOf(command, context).data({ simulated: status.simulated, services }, (_value, style) => {
        if (services.length === 0) return `There are no services. ${HOW_TO_GET_ONE}`;
        return table(
          [
            { title: 'service' },
            { title: 'state' },
            { title: 'run by' },
            { title: 'priority', align: 'right' },
            { title: 'VRAM MB', align: 'right' },
            { title: 'declared MB', align: 'right' },
            { title: 'most seen MB', align: 'right' },
            { title: 'charged MB', align: 'right' },
            { title: 'trouble' },
          ],
          services.map((one) => [
            one.name,
            one.state,
            one.driver,
            String(one.priority),
            String(one.vram_mb),
            String(one.declared_mb ?? '–'),
            String(one.seen_mb ?? '–'),
            `${one.charge_mb} (${one.charge_source})`,
            one.trouble === null ? '–' : describeTrouble(one.trouble),
          ]),
          style,
        );
      });
    });
  for (const verb of ['start', 'stop', 'restart'] as const) {
    service
      .command(verb)
      .argument('<service>', 'a service of the configuration')
      .option('--no-wait', 'start it and return; print its workflow id')
      .description(WHAT[verb])
      .action(async (name: string, options: { wait: boolean }, command: Command) => {
        const { config } = configOf(command, context);
        const tenant = serviceTenant(knownService(await hostPolicy(config, context), name));
        await ask(config, context, outputOf(command, context), { kind: 'service', tenant, verb }, options.wait);
      });
  }
  service
    .command('logs')
    .argument('<service>', 'a service of the configuration')
    .option('-f, --follow', 'go on with what it writes, until Ctrl-C', false)
    .option('--tail <lines>', 'the last so many lines', lines, 100)
    .description('what a service has written')
    .action(async (name: string, options: { follow: boolean; tail: number }, command: Command) => {
      const { config } = configOf(command, context);
      const output = outputOf(command, context);
      const query = new URLSearchParams({ tail: String(options.tail), follow: String(options.follow) });
      const known = knownService(await hostPolicy(config, context), name);
      const path = `/v1/services/${known}/logs?${query.toString()}`;
      for await (const line of agentClient(config, context).lines(path, {})) output.item({ line }, () => line);
    });
  return service;
}
