import { Command } from 'commander';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { configOf, outputOf } from '../globalOptions.js';
import { imageOf } from './generate.js';

interface Embedded {
  embeddings: number[][];
  dimension: number;
  device: string;
}

/** `vramflow embed text|image …`: embeddings from CLIP, wherever it is. */
export function embedCommand(context: CliContext): Command {
  const embed = new Command('embed').description('make CLIP embeddings of texts or images');
  const run = async (command: Command, inputs: string[], body: unknown) => {
    const { config } = configOf(command, context);
    const answer = await agentClient(config, context).post<Embedded>('/v1/embed', body);
    outputOf(command, context).data(answer, () =>
      answer.embeddings
        .map(
          (vector, i) =>
            `${inputs[i] ?? ''}: ${answer.dimension} values on ${answer.device}, ${vector
              .slice(0, 4)
              .map((v) => v.toFixed(4))
              .join(' ')} …`,
        )
        .join('\n'),
    );
  };
  embed
    .command('text')
    .argument('<texts...>', 'one or more texts')
    .description('one embedding for each text')
    .action((texts: string[], _options, command: Command) => run(command, texts, { texts }));
  embed
    .command('image')
    .argument('<files...>', 'PNG or JPEG files')
    .description('one embedding for each image')
    .action((files: string[], _options, command: Command) => run(command, files, { images: files.map(imageOf) }));
  return embed;
}
