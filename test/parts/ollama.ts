import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type Missing, onPath } from './parts.js';
import { freePort } from './ports.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const CACHE = join(HERE, '../../.cache/parts');
const GENERATOR = join(HERE, 'makeGguf.py');

/** The tiny models that each real Ollama of the tests has; their files differ, so each gets a runner of its own. */
export const TINY = { first: 'tiny-first:latest', second: 'tiny-second:latest', embedder: 'tiny-embedder:latest' };
const RECIPES: Record<keyof typeof TINY, string[]> = {
  first: ['--seed', '1'],
  second: ['--seed', '2'],
  embedder: ['--seed', '3', '--embeds'],
};
/** One thread: more only wait for each other in so small a model. Random weights find no end of an answer. */
const PARAMETERS = 'PARAMETER num_thread 1\nPARAMETER num_predict 32';

export interface RealOllamaOptions {
  /** Default: a free one. Give the one of a former server to start it again. */
  port?: number;
  /** OLLAMA_MAX_LOADED_MODELS; default: Ollama's own. */
  maxLoadedModels?: number;
  /** More models beside the tiny ones: name → arguments of makeGguf.py. */
  more?: Record<string, string[]>;
}

export interface RealOllama {
  endpoint: string;
  port: number;
  /** Of `ollama serve`. Its runners are in its process group. */
  pid: number;
  models: typeof TINY;
  /** Resolves when the server has ended, for whatever reason. */
  ended: Promise<void>;
  /** Ends the server and its runners; also the runners that a killed server has left. */
  stop(): Promise<void>;
}

/**
 * Starts a real Ollama of the test's own: `ollama` on the PATH or VRAMFLOW_TEST_OLLAMA, on loopback, with models of its
 * own. The models are made once (Python with gguf and numpy) and kept under .cache/parts.
 */
export async function startRealOllama(options: RealOllamaOptions = {}): Promise<RealOllama | Missing> {
  const binary = process.env['VRAMFLOW_TEST_OLLAMA'] ?? (await onPath('ollama'));
  if (binary === null) {
    return { skip: 'no `ollama` on the PATH; install it from https://ollama.com or set VRAMFLOW_TEST_OLLAMA' };
  }
  const models = await madeModels(binary, options.more ?? {});
  return typeof models === 'string' ? await serve(binary, models, options) : models;
}

/** @returns the folder with the models; made beside it and moved there whole, so that two test files may race. */
async function madeModels(binary: string, more: Record<string, string[]>): Promise<string | Missing> {
  const kinds = Object.keys(RECIPES) as (keyof typeof TINY)[];
  const recipes = { ...Object.fromEntries(kinds.map((kind) => [TINY[kind], RECIPES[kind]])), ...more };
  const recipe = createHash('sha256')
    .update(await readFile(GENERATOR))
    .update(JSON.stringify([recipes, PARAMETERS]));
  const folder = join(CACHE, `ollama-${recipe.digest('hex').slice(0, 12)}`);
  if (await exists(folder)) return folder;
  const python = await execa('python3', ['-c', 'import gguf, numpy'], { reject: false });
  if (python.failed) {
    return { skip: 'the models need Python 3 with two packages: `python3 -m pip install gguf numpy`' };
  }
  await mkdir(CACHE, { recursive: true });
  const draft = await mkdtemp(join(CACHE, 'draft-'));
  const server = await serve(binary, draft, {});
  try {
    for (const [name, recipe] of Object.entries(recipes)) {
      const file = join(draft, 'model.gguf');
      await execa('python3', [GENERATOR, file, ...recipe]);
      await writeFile(join(draft, 'Modelfile'), `FROM ${file}\n${PARAMETERS}\n`);
      await execa(binary, ['create', name, '-f', join(draft, 'Modelfile')], {
        env: { OLLAMA_HOST: server.endpoint, HOME: draft },
      });
      await rm(file);
    }
  } finally {
    await server.stop();
  }
  await rename(draft, folder).catch(async (error: unknown) => {
    await rm(draft, { recursive: true });
    if (!(await exists(folder))) throw error; // Otherwise another test file was first.
  });
  return folder;
}

async function serve(binary: string, models: string, options: RealOllamaOptions): Promise<RealOllama> {
  const port = options.port ?? (await freePort());
  const endpoint = `http://127.0.0.1:${port}`;
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('OLLAMA_'));
  const child = spawn(binary, ['serve'], {
    env: {
      ...Object.fromEntries(inherited),
      HOME: models, // It writes a key there.
      OLLAMA_HOST: endpoint,
      OLLAMA_MODELS: join(models, 'models'),
      OLLAMA_NOPRUNE: '1', // Another server may use the same models.
      ...(options.maxLoadedModels === undefined ? {} : { OLLAMA_MAX_LOADED_MODELS: String(options.maxLoadedModels) }),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true, // A process group of its own, which its runners join.
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const killGroup = () => signalGroup(child, 'SIGKILL');
  process.once('exit', killGroup);
  const stop = async () => {
    process.removeListener('exit', killGroup);
    child.kill('SIGTERM');
    const hangs = setTimeout(killGroup, 5000);
    await ended;
    clearTimeout(hangs);
    killGroup();
  };
  try {
    await listening(child, binary);
  } catch (error) {
    killGroup();
    throw error;
  }
  return { endpoint, port, pid: child.pid ?? Number.NaN, models: TINY, ended, stop };
}

/** Resolves at the log line that says so; rejects with the end of the log when the server ends instead. */
function listening(child: ChildProcess, binary: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const log: string[] = [];
    const lines = createInterface({ input: child.stderr ?? process.stdin });
    // Reads on for ever: a full pipe would stop the server.
    lines.on('line', (line) => {
      log.push(line);
      if (log.length > 20) log.shift();
      if (line.includes('Listening on')) resolve();
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${binary} ended with code ${code}:\n${log.join('\n')}`)));
  });
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    // Nobody left in the group.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

async function exists(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
