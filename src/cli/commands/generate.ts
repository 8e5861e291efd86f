import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { FAILURE } from '../../contracts/failures.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { EXIT, type ExitCode } from '../exitCodes.js';
import { configOf, outputOf } from '../globalOptions.js';
import { UserError } from '../userError.js';
import { knownModel } from './model.js';

interface Line {
  progress?: { state: string; message: string; workflowId: string | null };
  text?: string;
  done?: boolean;
  tokens?: number;
  error?: { code: string; message: string; remedy: string | null };
}

const EXIT_OF: Readonly<Record<string, ExitCode>> = {
  [FAILURE.refused]: EXIT.refused,
  unavailable: EXIT.unavailable,
};

const collect = (value: string, before: string[] = []): string[] => [...before, value];

/** `vramflow generate <model> <prompt>`: an on-demand request through the gate (M13), streaming. */
export function generateCommand(context: CliContext): Command {
  return new Command('generate')
    .argument('<model>', 'a model of the configuration; vlm stands for vlm_model')
    .argument('<prompt>', 'what to ask')
    .option('--image <file>', 'an image to show to the model; may be given more than once', collect)
    .description('ask a model; it is loaded first when it is not there')
    .action(async (written: string, prompt: string, options: { image?: string[] }, command: Command) => {
      const { config } = configOf(command, context);
      const output = outputOf(command, context);
      const model = knownModel(config, written);
      const images = options.image?.map((file) => imageOf(file));
      const body = { model, prompt, ...(images ? { images } : {}) };
      let text = '';
      let tokens: number | null = null;
      for await (const line of agentClient(config, context).lines('/v1/generate', { body })) {
        const part = JSON.parse(line) as Line;
        if (part.progress)
          output.talk(part.progress.message + (part.progress.workflowId ? ` (${part.progress.workflowId})` : ''));
        if (part.error) {
          throw new UserError(part.error.message, {
            exitCode: EXIT_OF[part.error.code] ?? EXIT.failed,
            code: part.error.code,
            ...(part.error.remedy ? { remedy: part.error.remedy } : {}),
          });
        }
        if (part.text && output.format === 'text') context.stdout.write(part.text);
        text += part.text ?? '';
        tokens = part.tokens ?? tokens;
      }
      if (output.format === 'json') output.data({ model, text, tokens }, () => text);
      else context.stdout.write('\n');
    });
}

export function imageOf(file: string): string {
  try {
    return readFileSync(file).toString('base64');
  } catch (error) {
    throw new UserError(`The image ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`, {
      remedy: 'Name a PNG or JPEG file that you may read.',
    });
  }
}
