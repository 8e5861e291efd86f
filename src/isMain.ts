import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** True when this module was started by itself, also through a link or bin/vramflow.js. */
export function isMain(moduleUrl: string): boolean {
  const started = process.argv[1];
  if (started === undefined) return false;
  const path = realpathSync(started);
  return path === fileURLToPath(moduleUrl) || (moduleUrl.endsWith('/client.js') && path.endsWith('/bin/vramflow.js'));
}
