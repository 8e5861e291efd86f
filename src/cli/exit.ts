import type { ExitCode } from './exitCodes.js';

/** Ends a command with a code other than 0 without an error message: its output has said it all. */
export class Exit extends Error {
  constructor(readonly exitCode: ExitCode) {
    super(`exit code ${exitCode}`);
  }
}

export function exitWith(code: ExitCode): void {
  if (code !== 0) throw new Exit(code);
}
