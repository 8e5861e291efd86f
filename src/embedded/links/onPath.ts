import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

import { checkBinary } from '../binary.js';
import type { Link } from '../findServer.js';

/** `temporal` on the PATH, when it is recent enough. */
export const onPath = (env: NodeJS.ProcessEnv): Link => ({
  name: 'the PATH',
  async try(signal) {
    const path = await findProgram('temporal', env);
    if (path === null) return { reason: 'no program called `temporal`' };
    const binary = await checkBinary(path, signal);
    return 'reason' in binary ? binary : { found: { kind: 'binary', ...binary } };
  },
});

/** The first executable file of this name on the PATH, or null. */
export async function findProgram(name: string, env: NodeJS.ProcessEnv): Promise<string | null> {
  const file = process.platform === 'win32' ? `${name}.exe` : name;
  for (const folder of (env['PATH'] ?? '').split(delimiter).filter((part) => part !== '')) {
    const path = join(folder, file);
    try {
      await access(path, constants.X_OK);
      if ((await stat(path)).isFile()) return path;
    } catch {
      // Not in this folder: look in the next.
    }
  }
  return null;
}
