import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createEmbedderLauncher } from '../adapters/clip/embedder.js';
import { lockFolder, SecondAgent } from '../agent/lock.js';

const GRACE_MS = 1_000;
/** For all of it: the request to end, SIGTERM and SIGKILL. */
const BOUND_MS = 15_000;

/**
 * Ends, by proof, the embedders that agents of this data folder left. An embedder outlives its agent for a successor's
 * sake; when `vramflow down` has ended the agents for good, nobody uses it, nor would anybody end it.
 * @returns their pids
 */
export async function endLeftEmbedders(dataFolder: string): Promise<number[]> {
  const hosts = await namesIn(join(dataFolder, 'agents'));
  const folders = hosts.flatMap((host) => ['simulated', 'real'].map((kind) => join(dataFolder, 'agents', host, kind)));
  const ended = await Promise.all(folders.filter((folder) => existsSync(join(folder, 'embedder'))).map(endIn));
  return ended.flat();
}

/** @param folder of an agent */
async function endIn(folder: string): Promise<number[]> {
  const lock = await lockFolder(folder).catch((error: unknown) => {
    // One that `vramflow up` did not start: its embedder is in use.
    if (error instanceof SecondAgent) return null;
    throw error;
  });
  if (lock === null) return [];
  try {
    // It only ends what its records prove; it starts nothing.
    const launcher = createEmbedderLauncher({
      command: [],
      model: '',
      stateDir: join(folder, 'embedder'),
      gpuProvider: '',
    });
    const left = await launcher.running();
    const signal = AbortSignal.timeout(BOUND_MS);
    await Promise.all(left.map((process) => launcher.end(process, { graceMs: GRACE_MS, signal })));
    return left.map(({ pid }) => pid);
  } finally {
    lock.close();
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    // No agent ever ran here.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
