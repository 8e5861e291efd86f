/** Asks a `temporal` program for its version; only one that is recent enough is used. */
import { execa } from 'execa';

import { LEAST_SERVER } from './pins.js';
import { compareVersions, formatVersion, parseVersion, type Version } from './version.js';

export interface Binary {
  path: string;
  /** Of the server inside, which decides about the database file. */
  server: Version;
}

/** @returns the binary, or why it is not used */
export async function checkBinary(path: string, signal?: AbortSignal): Promise<Binary | { reason: string }> {
  const result = await execa(path, ['--version'], {
    timeout: 10_000,
    reject: false,
    stdin: 'ignore',
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  signal?.throwIfAborted();
  if (result.failed) return { reason: `\`${path} --version\` failed: ${result.shortMessage}` };
  // "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"; a Go build says 0.0.0-DEV for its own version.
  const server = parseVersion(result.stdout, 'Server ');
  if (server === null) return { reason: `\`${path} --version\` names no server: ${result.stdout.slice(0, 80)}` };
  if (compareVersions(server, LEAST_SERVER) < 0) {
    return {
      reason: `${path} contains server ${formatVersion(server)}; ${formatVersion(LEAST_SERVER)} is the oldest tried`,
    };
  }
  return { path, server };
}
