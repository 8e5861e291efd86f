import { access } from 'node:fs/promises';
import { join } from 'node:path';

import { checkBinary } from '../binary.js';
import type { Link } from '../findServer.js';
import { CLI_VERSION } from '../pins.js';

/** Where the fetching links put the pinned program. */
export function cachedBinary(cacheFolder: string): string {
  const file = process.platform === 'win32' ? 'temporal.exe' : 'temporal';
  return join(cacheFolder, 'temporal-cli', CLI_VERSION, file);
}

/** What an earlier start fetched. */
export const cached = (cacheFolder: string): Link => ({
  name: 'the cache',
  async try(signal) {
    const path = cachedBinary(cacheFolder);
    try {
      await access(path);
    } catch {
      // Nothing was fetched yet.
      return { reason: `nothing at ${path}` };
    }
    const binary = await checkBinary(path, signal);
    return 'reason' in binary ? binary : { found: { kind: 'binary', ...binary } };
  },
});
