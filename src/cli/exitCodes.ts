/** How `vramflow` ends. Scripts may rely on these numbers. */
export const EXIT = {
  ok: 0,
  /** A mistake in vramflow itself. */
  unexpected: 1,
  /** Wrong arguments or bad input: nothing was changed. */
  usage: 2,
  /** The plan was refused: nothing was changed. */
  refused: 3,
  /** Temporal, the agent or Ollama cannot be reached. */
  unavailable: 4,
  /** The operation ran and failed. */
  failed: 5,
  /** A newer request superseded the operation, or it was cancelled. */
  superseded: 6,
  /** The command of `lease run` cannot be run, as of a shell. */
  notExecutable: 126,
  /** There is no such command, as of a shell. */
  notFound: 127,
  /** Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];
