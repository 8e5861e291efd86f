import { Argument, Command } from 'commander';
import { installClipPart } from '../../adapters/clip/part.js';
import { foldersOf } from '../../config/folders.js';
import { EMBEDDER, workflowId } from '../../contracts/names.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { configOf, homeOf, outputOf } from '../globalOptions.js';
import { operate } from '../operate.js';

/** `vramflow clip move cpu|cuda`, `vramflow clip install`. */
export function clipCommand(context: CliContext): Command {
  const clip = new Command('clip').description('move or install the CLIP embedder');
  clip
    .command('move')
    .addArgument(new Argument('<device>', 'where it should be').choices(['cpu', 'cuda']))
    .option('--no-wait', 'start it and return; print its workflow id')
    .description('move the embedder to a device, with proof that its embeddings stay the same')
    .action(async (device: 'cpu' | 'cuda', options: { wait: boolean }, command: Command) => {
      const { config } = configOf(command, context);
      const code = await operate(config, context, outputOf(command, context), {
        workflow: 'modelOperation',
        workflowId: (request) => workflowId.modelOperation(config.host, 'clip', `move-${device}`, request),
        input: { host: config.host, goal: { kind: 'embedder', device }, requestedBy: 'the command line', priority: 50 },
        tenant: EMBEDDER,
        summary: `CLIP to ${device}, asked for on the command line`,
        wait: options.wait,
      });
      exitWith(code);
    });
  clip
    .command('install')
    .description('install the optional CLIP part into the data folder (about 500 MB)')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const output = outputOf(command, context);
      const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
      const interrupted = new AbortController();
      process.once('SIGINT', () => interrupted.abort(new Error('interrupted')));
      const installed = await installClipPart({
        dataDir: data,
        onLine: (line) => output.talk(line),
        signal: interrupted.signal,
      });
      output.data(
        installed,
        () => `installed in ${installed.folder} (CUDA: ${installed.cuda}); restart the agent to use it`,
      );
    });
  return clip;
}
