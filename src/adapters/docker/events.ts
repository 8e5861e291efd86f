/** Docker's stream of events: what happens to containers, told as it happens. */
import type { Readable } from 'node:stream';

export interface ContainerEvent {
  action: string;
  /** The names that it is about: two of them when the container was renamed. */
  names: string[];
  /** Of a container that died. */
  exitCode: number | null;
}

interface Told {
  Action?: string;
  Actor?: { Attributes?: { name?: string; oldName?: string; exitCode?: string } };
}

/** Ends with the stream; rejects when that breaks. */
export async function* readEvents(stream: Readable): AsyncGenerator<ContainerEvent, void, undefined> {
  let rest = '';
  for await (const chunk of stream.setEncoding('utf8')) {
    const lines = (rest + String(chunk)).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') yield parseEvent(line);
  }
}

export function parseEvent(line: string): ContainerEvent {
  const { Action: action = '', Actor: actor } = JSON.parse(line) as Told;
  const { name, oldName, exitCode } = actor?.Attributes ?? {};
  return {
    action,
    names: [name, oldName].filter((each) => each !== undefined).map((each) => each.replace(/^\//, '')),
    exitCode: exitCode === undefined ? null : Number(exitCode),
  };
}
