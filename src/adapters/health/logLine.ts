import { createProbe, type HealthProbe } from './check.js';

/** Of a longer line, only the beginning is matched: an expression may take time that grows with the line. */
const LINE_LENGTH = 4_096;

export interface LogLineProbeOptions {
  /** A text that a line contains, or a regular expression that fits a whole line. */
  match: { contains: string } | { pattern: string };
  /** The output of the run, from its beginning or the last lines of it, up to now. */
  lines: (signal: AbortSignal) => AsyncIterable<string>;
  /** 10,000 by default. */
  timeoutMs?: number;
}

/** Well is whoever has printed a line that matches. @throws SyntaxError for a pattern that is no regular expression */
export function createLogLineProbe({ match, lines, timeoutMs }: LogLineProbeOptions): HealthProbe {
  const matches = matcherOf(match);
  const wanted = 'contains' in match ? `"${match.contains}"` : `/${match.pattern}/`;
  const probe = createProbe(async (signal) => {
    let count = 0;
    for await (const line of lines(signal)) {
      signal.throwIfAborted();
      count++;
      if (matches(line.slice(0, LINE_LENGTH))) return { ok: true, detail: `it printed: ${line.slice(0, 200)}` };
    }
    return { ok: false, detail: `none of ${count} lines of its output has ${wanted}` };
  }, timeoutMs);
  // The line may scroll out of the log, and a log that is rotated begins anew.
  return { ...probe, once: true };
}

function matcherOf(match: LogLineProbeOptions['match']): (line: string) => boolean {
  if ('contains' in match) return (line) => line.includes(match.contains);
  const pattern = new RegExp(`^(?:${match.pattern})$`, 'u');
  return (line) => pattern.test(line);
}
