import { Command } from 'commander';
import type { Config } from '../../config/schema.js';
import type { PlanPreview } from '../../contracts/operation.js';
import { explainPlan } from '../../domain/explainPlan.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { EXIT } from '../exitCodes.js';
import { configOf, outputOf } from '../globalOptions.js';
import { hostPolicy } from '../hostPolicy.js';
import { suggest } from '../nearest.js';
import type { Style } from '../output.js';
import { UserError } from '../userError.js';
import { knownModel } from './model.js';
import { knownPhase } from './phase.js';
import { knownService } from './service.js';

/** `vramflow plan mode|model <name>`: what would happen, and why; nothing is changed. */
export function planCommand(context: CliContext): Command {
  const plan = new Command('plan').description('show what a switch or a load would do, and why; nothing is changed');
  const show = async (config: Config, command: Command, query: Record<string, string>) => {
    const preview = await agentClient(config, context).get<PlanPreview>(
      `/v1/plan?${new URLSearchParams(query).toString()}`,
    );
    outputOf(command, context).data(preview, renderPreview);
    exitWith(preview.plan.kind === 'refusal' ? EXIT.refused : EXIT.ok);
  };
  plan
    .command('mode')
    .argument('<mode>', 'a mode of the configuration')
    .description('what a switch to this mode would do')
    .action(async (mode: string, _options, command: Command) => {
      const { config } = configOf(command, context);
      if (!Object.hasOwn(config.modes, mode)) {
        throw new UserError(`There is no mode "${mode}".`, { remedy: suggest(mode, Object.keys(config.modes)) });
      }
      await show(config, command, { mode });
    });
  plan
    .command('model')
    .argument('<model>', 'a model of the configuration; vlm stands for vlm_model')
    .description('what a load of this model would do')
    .action(async (name: string, _options, command: Command) => {
      const { config } = configOf(command, context);
      await show(config, command, { model: knownModel(config, name) });
    });
  plan
    .command('phase')
    .argument('<phase>', 'a phase by its name or number')
    .action(async (asked: string, _options, command: Command) => {
      const { config } = configOf(command, context);
      await show(config, command, { phase: knownPhase(await hostPolicy(config, context), asked).name });
    });
  const service = plan.command('service');
  service
    .command('start')
    .argument('<name>')
    .action(async (name: string, _options, command: Command) => {
      const { config } = configOf(command, context);
      await show(config, command, { service: knownService(await hostPolicy(config, context), name) });
    });
  return plan;
}

function renderPreview({ plan, observation, intentsKnown }: PlanPreview, style: Style): string {
  const lines = explainPlan(plan, observation);
  return (intentsKnown ? lines : [...lines, style.yellow(INTENTS_UNKNOWN)]).join('\n');
}

const INTENTS_UNKNOWN =
  'The host could not be asked what it wants (which models are wanted, what was moved by hand): it may plan otherwise.';
