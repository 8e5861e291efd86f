/** The workers' log as a person reads it. Files and pipes keep the JSON lines. */
import { type PrettyOptions, prettyFactory } from 'pino-pretty';

export const READABLE: PrettyOptions = {
  translateTime: 'SYS:HH:MM:ss',
  // Who speaks is told by the supervisor's prefix, or by the command that was given.
  ignore: 'pid,hostname,role,host,from,sdkComponent',
  singleLine: true,
};

/** Takes text as it comes, and passes on whole lines: JSON behind a worker's prefix made readable, others as they are. */
export function readableLog(write: (text: string) => void, options: { colorize: boolean }): (text: string) => void {
  const pretty = prettyFactory({ ...READABLE, ...options });
  let rest = '';
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) write(`${readableLine(line, pretty)}\n`);
  };
}

function readableLine(line: string, pretty: (line: string) => string): string {
  const [, prefix, json] = /^(\[\w+\] )(\{.*\})$/.exec(line) ?? [];
  return json === undefined ? line : `${prefix}${pretty(json).trimEnd()}`;
}
