/** The Temporal SDK can download the CLI as part of its test environment. */
import { readdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';

import { execa } from 'execa';

import type { Link } from '../findServer.js';
import { CLI_VERSION } from '../pins.js';
import { fetchIntoCache } from './fetchIntoCache.js';

/** Without a byte for so long the download counts as impossible here. */
const STALL_MS = 20_000;

/** The SDK has no download of its own: it starts a server in memory, which is ended at once. */
const SCRIPT = `
  const { TestWorkflowEnvironment } = require(process.argv[1]);
  const executable = { type: 'cached-download', downloadDir: process.argv[2], version: process.argv[3] };
  TestWorkflowEnvironment.createLocal({ server: { executable } }).then((env) => env.teardown()).catch((error) => {
    console.error(error.message);
    process.exit(1);
  });
`;

/**
 * In a process of its own, because the SDK's download cannot be cancelled.
 * @param options.stallMs default 20,000
 */
export const sdkDownload = (options: {
  cacheFolder: string;
  progress: (line: string) => void;
  stallMs?: number;
}): Link => ({
  name: "the SDK's download",
  async try(signal) {
    const sdk = resolveSdk();
    if (sdk === null) return { reason: '@temporalio/testing is not installed' };
    const { cacheFolder, progress } = options;
    const download = (folder: string) => downloadInto(folder, sdk, options.stallMs ?? STALL_MS, signal);
    progress(`Temporal is not on this machine; trying to download its CLI ${CLI_VERSION}.`);
    const result = await fetchIntoCache(cacheFolder, progress, download, signal);
    if ('reason' in result) progress('The download is not possible here.');
    return result;
  },
});

async function downloadInto(
  folder: string,
  sdk: string,
  stallMs: number,
  signal?: AbortSignal,
): Promise<{ path: string } | { reason: string }> {
  const stalled = new AbortController();
  const watcher = watchGrowth(folder, stallMs, () => stalled.abort());
  const cancelSignal = signal === undefined ? stalled.signal : AbortSignal.any([stalled.signal, signal]);
  try {
    const result = await execa(process.execPath, ['-e', SCRIPT, sdk, folder, `v${CLI_VERSION}`], {
      reject: false,
      stdin: 'ignore',
      cancelSignal,
      forceKillAfterDelay: 1_000,
    });
    signal?.throwIfAborted();
    if (stalled.signal.aborted) return { reason: `no progress for ${stallMs / 1000} s` };
    if (result.failed) return { reason: lastLine(result.stderr) ?? result.shortMessage ?? 'the SDK gave no reason' };
  } finally {
    clearInterval(watcher);
  }
  const file = (await readdir(folder)).find((name) => !name.endsWith('.downloading'));
  return file === undefined ? { reason: 'the SDK left no file' } : { path: join(folder, file) };
}

/** Calls `onStall` once when the files in a folder have not grown for `stallMs`. */
function watchGrowth(folder: string, stallMs: number, onStall: () => void): NodeJS.Timeout {
  let size = 0;
  let since = Date.now();
  const timer = setInterval(
    () => {
      void folderSize(folder).then((now) => {
        if (now > size) since = Date.now();
        size = now;
        if (Date.now() - since >= stallMs) onStall();
      });
    },
    Math.min(500, stallMs),
  );
  return timer;
}

async function folderSize(folder: string): Promise<number> {
  try {
    const names = await readdir(folder);
    const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size));
    return sizes.reduce((sum, size) => sum + size, 0);
  } catch {
    // A file was renamed while we looked: no figure this time.
    return 0;
  }
}

const lastLine = (text: string | undefined) => text?.trim().split('\n').at(-1);

function resolveSdk(): string | null {
  try {
    return createRequire(import.meta.url).resolve('@temporalio/testing');
  } catch {
    // A production installation goes without it.
    return null;
  }
}
