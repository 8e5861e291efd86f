/** The optional part: `@huggingface/transformers` and what it needs, 474 MB, in a folder of its own with its own lock. */
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { ExecaError, execa } from 'execa';

import { EmbedderError } from './failure.js';

/** Shipped with vramflow: the part's package.json and lock. */
const SOURCE = fileURLToPath(new URL('../../../parts/clip', import.meta.url));
const INSTALL = 'vramflow clip install';
const TRANSFORMERS = 'node_modules/@huggingface/transformers/package.json';
/** npm writes this last: an installation that was cut off lacks it. */
const NPM_DONE = 'node_modules/.package-lock.json';
const ONNXRUNTIME = 'node_modules/onnxruntime-node';
const CUDA_LIBRARY = join(ONNXRUNTIME, 'bin/napi-v6/linux/x64/libonnxruntime_providers_cuda.so');
/** Each is there when an NVIDIA driver is loaded: on Linux, in a container, under WSL 2. */
const DRIVER_SIGNS = ['/proc/driver/nvidia/version', '/dev/nvidiactl', '/usr/lib/wsl/lib/libcuda.so.1'];

export type ClipPart =
  | {
      folder: string;
      /** Whether ONNX Runtime's CUDA library is there; without it `cuda` fails, never falls back. */
      cuda: boolean;
    }
  | { missing: { reason: string; remedy: string } };

/** Looks in the data folder, then in the repository; only a whole installation of the pinned version counts. */
export function findClipPart(where: { dataDir: string; repoRoot: string }): ClipPart {
  const folders = [partFolder(where.dataDir), join(where.repoRoot, 'parts/clip')];
  const wanted = pinnedVersion();
  const flaws: string[] = [];
  for (const folder of folders) {
    const flaw = flawOf(folder, wanted);
    if (flaw === null) return { folder, cuda: existsSync(join(folder, CUDA_LIBRARY)) };
    flaws.push(flaw);
  }
  return { missing: { reason: `The CLIP part is not installed: ${flaws.join('; ')}.`, remedy: `Run ${INSTALL}` } };
}

/** What the embedder process needs in its environment: where the part is, and where fetched models stay. */
export function clipEnvironment(part: { folder: string }, dataDir: string): Record<string, string> {
  return { VRAMFLOW_CLIP_PART: part.folder, VRAMFLOW_CLIP_CACHE: join(dataDir, 'models', 'clip') };
}

export interface ClipInstallation {
  folder: string;
  /** `failed`: the part works on the CPU; the lines said why there is no CUDA. */
  cuda: 'installed' | 'failed' | 'not-needed';
}

/**
 * Installs the part in the data folder by `npm ci`; safe to repeat. On Linux x64 with an NVIDIA driver ONNX Runtime's
 * CUDA libraries (some 300 MB, from NuGet) are fetched afterwards, as a step of its own: inside `npm ci` their failure
 * would undo the whole installation, and newer npm skips such scripts silently.
 * @param options.onLine gets each line of progress
 * @param options.nvidia default: whether a driver is loaded
 * @throws EmbedderError `part-missing` when npm fails; rejects with the signal's reason on abort
 */
export async function installClipPart(options: {
  dataDir: string;
  onLine: (line: string) => void;
  signal: AbortSignal;
  nvidia?: boolean;
}): Promise<ClipInstallation> {
  const { onLine, signal } = options;
  const folder = partFolder(options.dataDir);
  await mkdir(folder, { recursive: true });
  for (const file of ['package.json', 'package-lock.json']) await copyFile(join(SOURCE, file), join(folder, file));
  onLine(`Installing the CLIP part in ${folder} (474 MB on disk) …`);
  const npm = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund'];
  const failure = await runLines(npm, { cwd: folder, env: { ONNXRUNTIME_NODE_INSTALL: 'skip' }, onLine, signal });
  if (failure !== null) {
    throw new EmbedderError('part-missing', `npm could not install the CLIP part: ${failure}`, {
      remedy: `Check the network and that npm is on the PATH, then run ${INSTALL} again`,
    });
  }
  const wanted = options.nvidia ?? DRIVER_SIGNS.some((sign) => existsSync(sign));
  if (!wanted || process.platform !== 'linux' || process.arch !== 'x64') return { folder, cuda: 'not-needed' };
  onLine('An NVIDIA GPU is here: fetching the CUDA libraries of ONNX Runtime …');
  const script = [process.execPath, join(folder, ONNXRUNTIME, 'script/install.js')];
  const cudaFailure = await runLines(script, {
    cwd: folder,
    env: { ONNXRUNTIME_NODE_INSTALL: 'cuda12' },
    onLine,
    signal,
  });
  if (cudaFailure === null && existsSync(join(folder, CUDA_LIBRARY))) return { folder, cuda: 'installed' };
  onLine(`The CUDA libraries could not be fetched: ${cudaFailure ?? 'the file did not arrive'}`);
  onLine(`CLIP works on the CPU; a move to the GPU will fail. To try again: ${INSTALL}`);
  return { folder, cuda: 'failed' };
}

const partFolder = (dataDir: string): string => join(dataDir, 'parts', 'clip');

function pinnedVersion(): string {
  const part = JSON.parse(readFileSync(join(SOURCE, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  return part.dependencies['@huggingface/transformers'] ?? '';
}

function flawOf(folder: string, wanted: string): string | null {
  const file = join(folder, TRANSFORMERS);
  if (!existsSync(file)) return `nothing in ${folder}`;
  if (!existsSync(join(folder, NPM_DONE))) return `the installation in ${folder} was cut off`;
  const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
  return version === wanted ? null : `${folder} has version ${version}, vramflow needs ${wanted}`;
}

/** Answers why the command failed, in the last words of its own that name an error, or null. */
async function runLines(
  command: string[],
  options: { cwd: string; env: Record<string, string>; onLine: (line: string) => void; signal: AbortSignal },
): Promise<string | null> {
  const [file = '', ...args] = command;
  const { cwd, env, signal, onLine } = options;
  let words = '';
  try {
    const child = execa(file, args, {
      cwd,
      env,
      stdin: 'ignore',
      all: true,
      cancelSignal: signal,
      forceKillAfterDelay: 5_000,
    });
    for await (const line of child.iterable({ from: 'all' })) {
      if (line.trim() === '') continue;
      if (words === '' || /\berr(or)?\b/i.test(line)) words = line;
      onLine(line);
    }
    await child;
    return null;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof ExecaError) return words === '' ? error.shortMessage : `${error.shortMessage} (${words})`;
    throw error;
  }
}
