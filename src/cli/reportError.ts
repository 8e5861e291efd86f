/** How a command that fails says so on stderr: lines for a person, or one JSON object in one line for a program. */
import { CommanderError } from 'commander';
import { SecondAgent } from '../agent/lock.js';
import { TokenError } from '../agent/token.js';
import { Exit } from './exit.js';
import { EXIT, type ExitCode } from './exitCodes.js';
import type { Format } from './output.js';
import { explain, UserError } from './userError.js';

/**
 * @param options.placed where the word belongs that stands in the wrong place, or null
 * @returns the exit code that goes with the error
 */
export function reportError(
  error: unknown,
  format: Format,
  stderr: NodeJS.WritableStream,
  { placed = null }: { placed?: string | null } = {},
): ExitCode {
  if (error instanceof Exit) return error.exitCode;
  if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
  // The help that is shown instead says it.
  if (error instanceof CommanderError && error.code === 'commander.help' && format === 'text') return EXIT.usage;
  const known = asUserError(error, placed);
  if (format === 'json') stderr.write(`${JSON.stringify({ error: known ? bodyOf(known) : unexpected(error) })}\n`);
  else stderr.write(`${known ? known.lines().join('\n') : stackOf(error)}\n`);
  return known?.exitCode ?? EXIT.unexpected;
}

function asUserError(error: unknown, placed: string | null): UserError | null {
  const known = explain(error);
  if (known instanceof UserError) return known;
  if (error instanceof CommanderError) return wrongWords(error, placed);
  if (error instanceof SecondAgent || error instanceof TokenError) {
    return new UserError(error.message, { exitCode: EXIT.unavailable, cause: error });
  }
  if (error instanceof Error && 'syscall' in error && error.syscall === 'listen') {
    const { message } = error;
    const code = 'code' in error && error.code === 'EADDRINUSE' ? 'port-in-use' : 'unavailable';
    const why = code === 'port-in-use' ? 'Another program listens there' : 'It cannot be listened at';
    const remedy = `${why}: set agent.listen, or gateway.listen where that is its address, to a free port from 1024 on.`;
    return new UserError(message, { exitCode: EXIT.unavailable, code, remedy, cause: error });
  }
  return null;
}

/** What Commander found wrong: `error: unknown option '--detatch'`, then perhaps `(Did you mean --detach?)`. */
function wrongWords(error: CommanderError, placed: string | null): UserError {
  if (error.code === 'commander.help') {
    return new UserError('a command is missing.', { remedy: 'Add --help to see which there are.' });
  }
  const [message = '', ...hints] = error.message.replace(/^error: /, '').split('\n');
  const remedy = placed ?? hints.join(' ').replace(/^\((.*)\)$/, '$1');
  return new UserError(message, { remedy: remedy || 'Add --help to see what it takes.' });
}

const bodyOf = ({ code, message, remedy, exitCode }: UserError) => ({
  code,
  message,
  remedy: remedy === '' ? null : remedy,
  exitCode,
});

const unexpected = (error: unknown) => ({
  code: 'internal',
  message: error instanceof Error ? error.message : String(error),
  remedy: 'This is a mistake in vramflow; without -o json it shows where.',
  exitCode: EXIT.unexpected,
});

const stackOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));
