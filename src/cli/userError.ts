/** An error that the person at the keyboard can do something about: shown without a stack. */
import { ConfigError, describeProblem } from '../config/problem.js';
import { EXIT, type ExitCode } from './exitCodes.js';

export class UserError extends Error {
  override readonly name = 'UserError';
  readonly exitCode: ExitCode;
  /** What to do about it; empty when the message says it. */
  readonly remedy: string;
  /** For programs; the agent's own code where the error comes from there. */
  readonly code: string;

  constructor(message: string, options: { exitCode?: ExitCode; remedy?: string; code?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.exitCode = options.exitCode ?? EXIT.usage;
    this.remedy = options.remedy ?? '';
    this.code = options.code ?? CODE_OF[this.exitCode] ?? 'internal';
  }

  /** The lines for stderr. */
  lines(): string[] {
    return [`error: ${this.message}`, ...(this.remedy ? [`  ${this.remedy}`] : [])];
  }
}

const CODE_OF: Partial<Record<ExitCode, string>> = {
  [EXIT.usage]: 'bad-input',
  [EXIT.refused]: 'refused',
  [EXIT.unavailable]: 'unavailable',
  [EXIT.failed]: 'failed',
  [EXIT.interrupted]: 'interrupted',
};

/** The errors of the configuration as a user error; every other error as it is. */
export function explain(error: unknown): unknown {
  if (!(error instanceof ConfigError)) return error;
  const [first, ...rest] = error.problems.map((problem) => `${describeProblem(problem)} ${problem.remedy}`);
  const message = ['the configuration cannot be used.', first, ...rest].join('\n  ');
  return new UserError(message, {
    remedy: rest.length > 0 ? 'Correct these places; `vramflow config validate` shows what is left.' : '',
    code: 'bad-configuration',
    cause: error,
  });
}
