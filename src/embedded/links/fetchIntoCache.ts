/** What the two fetching links share: one fetch at a time per cache, and a result that appears whole or not at all. */
import { chmod, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { checkBinary } from '../binary.js';
import type { LinkResult } from '../findServer.js';
import { withLock } from '../lock.js';
import { cached, cachedBinary } from './cached.js';

/** A build takes about 3 min on two cores; whoever waits for another's waits longer than that. */
const WAIT_MS = 20 * 60_000;

/**
 * @param fetch puts the program somewhere below the folder that it is given and answers its path, or why it could not
 */
export async function fetchIntoCache(
  cacheFolder: string,
  progress: (line: string) => void,
  fetch: (folder: string) => Promise<{ path: string } | { reason: string }>,
  signal?: AbortSignal,
): Promise<LinkResult> {
  const target = cachedBinary(cacheFolder);
  const onWait = () => progress('Another start is fetching Temporal; waiting for it.');
  return withLock(target, { timeoutMs: WAIT_MS, onWait, signal }, async () => {
    // The one that we waited for may have fetched it.
    const there = await cached(cacheFolder).try(signal);
    if ('found' in there) return there;
    await mkdir(dirname(target), { recursive: true });
    const folder = await mkdtemp(join(dirname(target), '.fetch-'));
    try {
      const fetched = await fetch(folder);
      if ('reason' in fetched) return fetched;
      const checked = await checkBinary(fetched.path, signal);
      if ('reason' in checked) return checked;
      await chmod(fetched.path, 0o755);
      await rename(fetched.path, target);
      return { found: { kind: 'binary', path: target, server: checked.server } };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}
