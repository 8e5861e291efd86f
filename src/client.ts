/** A main: the command line `vramflow`, which starts workflows and asks the agent. */
import { Command } from 'commander';
import { canFitCommand } from './cli/commands/canFit.js';
import { clipCommand } from './cli/commands/clip.js';
import { configCommand } from './cli/commands/config.js';
import { doctorCommand } from './cli/commands/doctor.js';
import { downCommand } from './cli/commands/down.js';
import { embedCommand } from './cli/commands/embed.js';
import { eventsCommand } from './cli/commands/events.js';
import { generateCommand } from './cli/commands/generate.js';
import { gpuCommand } from './cli/commands/gpu.js';
import { historyCommand } from './cli/commands/history.js';
import { leaseCommand } from './cli/commands/lease.js';
import { modeCommand } from './cli/commands/mode.js';
import { modelCommand } from './cli/commands/model.js';
import { phaseCommand } from './cli/commands/phase.js';
import { planCommand } from './cli/commands/plan.js';
import { serviceCommand } from './cli/commands/service.js';
import { simCommand } from './cli/commands/sim.js';
import { statusCommand } from './cli/commands/status.js';
import { upCommand } from './cli/commands/up.js';
import { workerCommand } from './cli/commands/worker.js';
import type { CliContext } from './cli/context.js';
import { EXIT, type ExitCode } from './cli/exitCodes.js';
import { addGlobalOptions, formatAsked } from './cli/globalOptions.js';
import { reportError } from './cli/reportError.js';
import { wherePlaced } from './cli/wherePlaced.js';
import { isMain } from './isMain.js';
import { version } from './version.js';

const COMMANDS = [
  upCommand,
  downCommand,
  statusCommand,
  modeCommand,
  modelCommand,
  generateCommand,
  clipCommand,
  embedCommand,
  serviceCommand,
  phaseCommand,
  leaseCommand,
  planCommand,
  canFitCommand,
  gpuCommand,
  eventsCommand,
  historyCommand,
  doctorCommand,
  configCommand,
  simCommand,
  workerCommand,
];

/** Runs one command line. @returns the exit code (cli/exitCodes) */
export async function main(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  const format = formatAsked(argv);
  const program = addGlobalOptions(new Command('vramflow'))
    .description('the durable manager of who holds the GPU')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      // The help of a command that is not whole; for a program what is wrong comes as one object at the end.
      writeErr: (text) => void (format === 'json' || context.stderr.write(text)),
      // Said once, at the end, with what to do about it.
      outputError: () => undefined,
    })
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError();
  for (const command of COMMANDS) program.addCommand(inherit(command(context), program));
  try {
    await program.parseAsync([...argv], { from: 'user' });
    return EXIT.ok;
  } catch (error) {
    return reportError(error, format, context.stderr, { placed: wherePlaced(error, argv, program) });
  }
}

/** Commander gives neither its exit override nor its output to commands that were made apart. */
function inherit(command: Command, parent: Command): Command {
  command.copyInheritedSettings(parent);
  for (const child of command.commands) inherit(child, command);
  return command;
}

if (isMain(import.meta.url)) {
  // `vramflow … | head` closes the pipe early; that is no mistake.
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.unexpected),
  );
  // Who listens no more to the talk wants the work done all the same; a lease must be renewed, and given back.
  process.stderr.on('error', () => undefined);
  const { env, stdout, stderr } = process;
  process.exitCode = await main(process.argv.slice(2), { env, cwd: process.cwd(), stdout, stderr });
}
