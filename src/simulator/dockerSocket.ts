import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

/** A path of a socket that is longer is cut off by the system. */
const LONGEST_PATH = 100;

/**
 * Where the simulated daemon listens: beside the state file, so that it is the same after a restart; without one, or where
 * that path is too long, in a folder of its own.
 */
export function dockerSocket(stateFile?: string): { path: string; remove: () => void } {
  const beside = stateFile === undefined ? null : `${resolve(stateFile)}.docker.sock`;
  if (beside !== null && Buffer.byteLength(beside) <= LONGEST_PATH) {
    return { path: beside, remove: () => rmSync(beside, { force: true }) };
  }
  const path = join(mkdtempSync(join(tmpdir(), 'vramflow-sim-')), 'docker.sock');
  return { path, remove: () => rmSync(dirname(path), { recursive: true, force: true }) };
}
