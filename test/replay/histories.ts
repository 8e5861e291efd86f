/** The recorded histories: one file each, with the workflow's id, under histories/. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import proto from '@temporalio/proto';

// Not historyFromJSON of the SDK: it needs one copy of protobufjs in all of its packages, and npm installs several.
const { History } = proto.temporal.api.history.v1;
export type History = proto.temporal.api.history.v1.IHistory;

const FOLDER = fileURLToPath(new URL('./histories/', import.meta.url));

export interface Recorded {
  /** `<workflow type>-<what happened>`. */
  name: string;
  workflowId: string;
  history: History;
}

interface File {
  workflowId: string;
  history: Record<string, unknown>;
}

export const recordedHistories = (): Recorded[] =>
  readdirSync(FOLDER)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => {
      const { workflowId, history } = JSON.parse(readFileSync(FOLDER + file, 'utf8')) as File;
      return { name: file.replace(/\.json$/, ''), workflowId, history: History.fromObject(history) };
    });

/** Takes the place of all that is there. @param local texts of this machine, and what is written instead */
export function replaceHistories(recorded: Recorded[], local: [string, string][]): void {
  for (const { name } of recordedHistories()) rmSync(`${FOLDER}${name}.json`);
  for (const { name, workflowId, history } of recorded) {
    const file: File = {
      workflowId,
      history: JSON.parse(JSON.stringify(toObject(history)), (key, value: unknown) => anonymous(key, value, local)),
    };
    writeFileSync(`${FOLDER}${name}.json`, `${JSON.stringify(file)}\n`);
  }
}

const toObject = (history: History) =>
  History.toObject(History.fromObject(history), { bytes: String, enums: String, longs: String });

/** Names of machines and folders have no place in the repository; a replay does not look at them. */
function anonymous(key: string, value: unknown, local: [string, string][]): unknown {
  if (typeof value !== 'string') return value;
  if (key === 'identity') return 'a worker';
  if (key === 'stackTrace') return '';
  const replaced = (text: string) => local.reduce((sum, [from, to]) => sum.replaceAll(from, to), text);
  return key === 'data'
    ? Buffer.from(replaced(Buffer.from(value, 'base64').toString())).toString('base64')
    : replaced(value);
}
