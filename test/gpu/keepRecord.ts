import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** For a person to read afterwards: VRAMFLOW_TEST_RECORD names the folder; without it nothing is kept. */
export function keepRecord(title: string, what: unknown): void {
  const folder = process.env['VRAMFLOW_TEST_RECORD'];
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${title.replaceAll(' ', '-')}.json`), JSON.stringify(what, null, 1));
}
