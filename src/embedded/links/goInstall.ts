/** The last resort: build the pinned CLI from source. It is slow, so it says so first and happens once. */
import { join } from 'node:path';

import { execa } from 'execa';

import type { Link } from '../findServer.js';
import { GO_PACKAGE, LEAST_GO } from '../pins.js';
import { compareVersions, formatVersion, parseVersion } from '../version.js';
import { fetchIntoCache } from './fetchIntoCache.js';
import { findProgram } from './onPath.js';

/** Measured: 2.5 min on 2 cores. Ten times that on a slow machine with a cold module cache. */
const BUILD_MS = 25 * 60_000;
const TELL_EVERY_MS = 10_000;

export const goInstall = (options: {
  cacheFolder: string;
  progress: (line: string) => void;
  env: NodeJS.ProcessEnv;
}): Link => ({
  name: 'a build with Go',
  async try(signal) {
    const { cacheFolder, progress, env } = options;
    const go = await findProgram('go', env);
    if (go === null) return { reason: `no program called \`go\`; Go ${formatVersion(LEAST_GO)} or newer is needed` };
    const printed = await execa(go, ['version'], { reject: false, timeout: 10_000, stdin: 'ignore', env });
    const version = parseVersion(printed.stdout ?? '', 'go version go');
    if (version === null || compareVersions(version, LEAST_GO) < 0) {
      const has = version === null ? 'says no version' : `is ${formatVersion(version)}`;
      return { reason: `${go} ${has}; ${formatVersion(LEAST_GO)} or newer is needed` };
    }
    return fetchIntoCache(cacheFolder, progress, (folder) => build(go, folder, options, signal), signal);
  },
});

async function build(
  go: string,
  folder: string,
  options: { progress: (line: string) => void; env: NodeJS.ProcessEnv },
  signal?: AbortSignal,
): Promise<{ path: string } | { reason: string }> {
  const { progress, env } = options;
  progress('Building the Temporal CLI with Go: about 3 minutes and 250 MB, this once.');
  const started = Date.now();
  let packages = 0;
  // -v prints one line for each package that is compiled.
  const run = execa(go, ['install', '-v', GO_PACKAGE], {
    env: { ...env, GOBIN: folder, GOFLAGS: '' },
    reject: false,
    stdin: 'ignore',
    timeout: BUILD_MS,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  run.stderr.on('data', (chunk: Buffer) => {
    packages += chunk.toString().split('\n').length - 1;
  });
  const timer = setInterval(() => {
    progress(`  building: ${Math.round((Date.now() - started) / 1000)} s, ${packages} packages`);
  }, TELL_EVERY_MS);
  const result = await run.finally(() => clearInterval(timer));
  signal?.throwIfAborted();
  if (result.failed) {
    const last = result.stderr.trim().split('\n').slice(-3).join(' / ');
    return { reason: result.timedOut ? `not done after ${BUILD_MS / 60_000} min` : `go install failed: ${last}` };
  }
  progress(`Built the Temporal CLI in ${Math.round((Date.now() - started) / 1000)} s.`);
  return { path: join(folder, process.platform === 'win32' ? 'temporal.exe' : 'temporal') };
}
