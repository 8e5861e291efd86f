import { Command, InvalidArgumentError } from 'commander';
import type { Fit } from '../../domain/canFit.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { EXIT } from '../exitCodes.js';
import { configOf, outputOf } from '../globalOptions.js';

const megabytes = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < 0)
    throw new InvalidArgumentError('Give MB as a number, for example 6000.');
  return value;
};

/** `vramflow can-fit <mb>` (P1): exit code 0 when it fits now, 3 when it does not. */
export function canFitCommand(context: CliContext): Command {
  return new Command('can-fit')
    .description('whether so many MB fit on one GPU now, without stopping anything')
    .argument('<mb>', 'MB of VRAM', megabytes)
    .action(async (mb: number, _options, command: Command) => {
      const { config } = configOf(command, context);
      const fit = await agentClient(config, context).get<Fit>(`/v1/can-fit?mb=${mb}`);
      outputOf(command, context).data(fit, ({ fits, freeMb }) => {
        const gpus = Object.entries(freeMb).map(
          ([gpu, free]) => `${gpu}: ${free === null ? 'unknown' : `${free} MB`} free`,
        );
        return [fits ? 'fits' : 'does not fit', ...gpus].join('\n');
      });
      exitWith(fit.fits ? EXIT.ok : EXIT.refused);
    });
}
