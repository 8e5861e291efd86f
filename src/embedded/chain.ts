/** The chain in its order: what is given, what is there, what can be fetched, what can be built. */
import type { Link } from './findServer.js';
import { cached } from './links/cached.js';
import { givenAddress, givenBinary } from './links/given.js';
import { goInstall } from './links/goInstall.js';
import { onPath } from './links/onPath.js';
import { sdkDownload } from './links/sdkDownload.js';

export function serverChain(options: {
  /** From the flag, the environment or the configuration; the config layer has settled which. */
  address?: string | undefined;
  binary?: string | undefined;
  cacheFolder: string;
  env: NodeJS.ProcessEnv;
  progress: (line: string) => void;
}): Link[] {
  const { cacheFolder, env, progress } = options;
  return [
    givenAddress(options.address),
    givenBinary(options.binary),
    onPath(env),
    cached(cacheFolder),
    sdkDownload({ cacheFolder, progress }),
    goInstall({ cacheFolder, progress, env }),
  ];
}
