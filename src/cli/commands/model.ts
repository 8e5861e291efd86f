import { Command } from 'commander';
import { fullModelName } from '../../config/modelName.js';
import type { Config } from '../../config/schema.js';
import { modelTenant, workflowId } from '../../contracts/names.js';
import type { Status } from '../../contracts/status.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { configOf, outputOf } from '../globalOptions.js';
import { suggest } from '../nearest.js';
import { operate } from '../operate.js';
import { table } from '../output.js';
import { UserError } from '../userError.js';

/** @throws UserError with the nearest names */
export function knownModel(config: Config, written: string): string {
  const name = written === 'vlm' ? config.vlm_model : fullModelName(written);
  if (Object.hasOwn(config.models, name)) return name;
  throw new UserError(`The configuration has no model "${written}".`, {
    remedy: suggest(written, Object.keys(config.models)),
  });
}

/** `vramflow model load|unload|ps`. */
export function modelCommand(context: CliContext): Command {
  const model = new Command('model').description('load and unload models, and see which are there');
  for (const verb of ['load', 'unload'] as const) {
    model
      .command(verb)
      .argument('<model>', 'a model of the configuration; vlm stands for vlm_model')
      .option('--no-wait', 'start it and return; print its workflow id')
      .description(`ensure that a model is ${verb}ed`)
      .action(async (written: string, options: { wait: boolean }, command: Command) => {
        const { config } = configOf(command, context);
        const name = knownModel(config, written);
        const code = await operate(config, context, outputOf(command, context), {
          workflow: 'modelOperation',
          workflowId: (request) => workflowId.modelOperation(config.host, name, verb, request),
          input: {
            host: config.host,
            goal: { kind: 'model', tenant: modelTenant(name), verb, demand: false },
            requestedBy: 'the command line',
            priority: 50,
          },
          tenant: modelTenant(name),
          summary: `${verb} ${name}, asked for on the command line`,
          wait: options.wait,
        });
        exitWith(code);
      });
  }
  model
    .command('ps')
    .description('the models that are resident, and when they may be unloaded')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const status = await agentClient(config, context).get<Status>('/v1/status');
      const models = status.tenants.filter((tenant) => tenant.kind === 'model' && tenant.holdings.length > 0);
      outputOf(command, context).data({ simulated: status.simulated, models }, (_value, style) => {
        const rows = models.map((one) => [
          one.id.slice('model/'.length),
          one.state,
          one.holdings.map((holding) => `${holding.device.slice(0, 12)} ${holding.mb} MB`).join(' + '),
          one.idleForMs === null ? '–' : `${Math.round(one.idleForMs / 1000)} s`,
          untilUnload(one.idleForMs, one.configured ? status.idle_timeout_seconds : null),
        ]);
        if (rows.length === 0) return 'no model is resident; `vramflow model load <model>` loads one';
        return table(
          ['model', 'state', 'holds', 'idle', 'unload in'].map((title) => ({ title })),
          rows,
          style,
        );
      });
    });
  return model;
}

const untilUnload = (idleMs: number | null, timeoutSeconds: number | null): string =>
  idleMs === null || timeoutSeconds === null ? 'never' : `${Math.max(0, Math.round(timeoutSeconds - idleMs / 1000))} s`;
