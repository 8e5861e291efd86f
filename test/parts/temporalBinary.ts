/** The `temporal` of the tests; vitest asks for it before all of them, so that no file's time goes into fetching it. */
import { join } from 'node:path';

import type { Binary } from '../../src/embedded/binary.js';
import { serverChain } from '../../src/embedded/chain.js';
import { findServer } from '../../src/embedded/findServer.js';

/** Found or fetched as `vramflow up` does it, into the same cache. @throws EmbeddedServerError */
export async function testBinary(): Promise<Binary> {
  const cacheFolder = join(process.env['XDG_CACHE_HOME'] ?? join(process.env['HOME'] ?? '', '.cache'), 'vramflow');
  const progress = (line: string) => process.stderr.write(`${line}\n`);
  const found = await findServer(serverChain({ cacheFolder, env: process.env, progress }));
  if (found.kind !== 'binary') throw new TypeError('No address was given, so the chain ends in a program.');
  return { path: found.path, server: found.server };
}

export async function setup(): Promise<void> {
  await testBinary();
}
