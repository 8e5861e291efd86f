/** Where a value comes from, and what is wrong with it. */
import { formatPath, type KeyPath } from './keyPath.js';

export interface Origin {
  /** `simulate`: laid on top by the simulator. */
  from: 'flag' | 'environment' | 'project' | 'user' | 'default' | 'simulate';
  file?: string;
  /** From 1. */
  line?: number;
  /** From 1. */
  column?: number;
  /** The environment variable. */
  variable?: string;
}

export interface Problem {
  file: string | null;
  line: number | null;
  column: number | null;
  key: string | null;
  /** `project`, `environment VRAMFLOW_HOST`, …: for a value that no file holds. */
  source: string;
  message: string;
  /** What to do about it. */
  remedy: string;
}

/** `environment VRAMFLOW_HOST`, `/etc/x.yaml:3:1`, `default`. */
export function describeOrigin(origin: Origin): string {
  if (origin.file !== undefined)
    return [origin.file, origin.line, origin.column].filter((part) => part !== undefined).join(':');
  return origin.variable === undefined ? origin.from : `${origin.from} ${origin.variable}`;
}

export function problemAt(origin: Origin, key: KeyPath | null, message: string, remedy: string): Problem {
  return {
    file: origin.file ?? null,
    line: origin.line ?? null,
    column: origin.column ?? null,
    key: key && key.length > 0 ? formatPath(key) : null,
    source: origin.variable === undefined ? origin.from : `${origin.from} ${origin.variable}`,
    message,
    remedy,
  };
}

/** `vramflow.yaml:3:1 gpu.reader: must be …`, without the remedy. */
export function describeProblem(problem: Problem): string {
  const place = problem.file
    ? [problem.file, problem.line, problem.column].filter((part) => part !== null).join(':')
    : problem.source;
  return problem.key ? `${place} ${problem.key}: ${problem.message}` : `${place}: ${problem.message}`;
}

const byPlace = (a: Problem, b: Problem): number =>
  (a.file ?? '').localeCompare(b.file ?? '') || (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);

/** The configuration cannot be used. Carries every problem found, not the first one only. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  /** By file, line and column; those of no file first. */
  readonly problems: readonly Problem[];

  constructor(found: readonly Problem[]) {
    const problems = found.toSorted(byPlace);
    super(problems.map((problem) => `${describeProblem(problem)} ${problem.remedy}`).join('\n'));
    this.problems = problems;
  }
}
