/** A native service as the configuration has it. */

export interface NativeService {
  name: string;
  /** The program and its arguments. It must stay in the foreground: the end of this process is the end of the run. */
  argv: [string, ...string[]];
  /** Beside a clean base (`cleanEnvironment`); nothing else of the agent's own environment reaches it. */
  env?: Record<string, string>;
  /** Absolute; by default that of the agent. */
  cwd?: string;
  /** TCP ports that it listens on: looked at before a start. */
  ports?: readonly number[];
  match?: NativeMatch;
}

/**
 * Adopts a service that was started by hand. Law 5 asks for proof that a process is ours. One started by hand has no
 * marker, so here the configuration is the proof: the owner of this machine wrote down that the program with exactly
 * this executable and these arguments is the service, and may be stopped as such. That is so for one process of our own
 * user only, under the pid, start time and arguments it was found with; where two match, neither is proven.
 */
export interface NativeMatch {
  /** The program whose file the process runs, by its path or on the PATH (for a Python program, the interpreter). */
  executable: string;
  /**
   * Its command line begins with exactly these words. Where the first one is `executable`, the name by which the program
   * was called is not compared: the kernel says which file runs.
   */
  argv: [string, ...string[]];
  /** It or one of its descendants listens on this TCP port. */
  port?: number;
}

/** What the configuration calls these. */
const KEYS = { argv: 'run', cwd: 'directory', ports: 'ports', match: 'adopt' } as const;

/** Where a service's settings stand in the configuration, for errors that say what to change. */
export const keyOf = (service: string, key: keyof typeof KEYS): string => `services.${service}.${KEYS[key]}`;
