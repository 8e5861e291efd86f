import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { execa } from 'execa';

import { findClipPart } from '../../src/adapters/clip/part.js';
import { type Missing, requirePart } from './parts.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, '../..');
const CACHE = join(ROOT, '.cache/parts');
const GENERATOR = join(HERE, 'makeTinyClip.py');

export interface RealClip {
  /** Where the part is installed: VRAMFLOW_CLIP_PART of the embedder process. */
  part: string;
  /** A tiny CLIP that loads from disk. */
  model: string;
  /** `node` and the compiled embedder. */
  command: string[];
  /** The compiled adapters, for a test that needs them in a process of its own. */
  compiled: string;
}

/**
 * The real CLIP code with a tiny model: the part in the repository (`npm ci` in parts/clip) or in VRAMFLOW_TEST_DATA,
 * a model made once by Python with onnx and numpy, and the embedder compiled from the sources as they are now.
 */
export async function requireClip(): Promise<RealClip | Missing> {
  return requirePart('CLIP', await findClip());
}

async function findClip(): Promise<RealClip | Missing> {
  const part = findClipPart({ dataDir: process.env['VRAMFLOW_TEST_DATA'] ?? ROOT, repoRoot: ROOT });
  if ('missing' in part) {
    return { skip: `${part.missing.reason} Run: ONNXRUNTIME_NODE_INSTALL=skip npm ci --prefix parts/clip` };
  }
  const model = await tinyClip();
  if (typeof model !== 'string') return model;
  const compiled = await compileAdapters();
  const command = [process.execPath, join(compiled, 'adapters/clip/child/main.js')];
  return { part: part.folder, model, command, compiled };
}

/** The folder of the tiny model, which needs no part. */
export async function tinyClip(): Promise<string | Missing> {
  const key = digest([await readFile(GENERATOR, 'utf8')]);
  const python =
    existsSync(join(CACHE, `clip-${key}`)) ||
    !(await execa('python3', ['-c', 'import onnx, numpy'], { reject: false })).failed;
  if (!python) return { skip: 'the tiny CLIP needs Python 3 with two packages: `python3 -m pip install onnx numpy`' };
  return cached(`clip-${key}`, async (draft) => {
    await execa('python3', [GENERATOR, draft]);
  });
}

/** The embedder is a program of its own, so it must be JavaScript; compiled beside nobody's build, by content. */
async function compileAdapters(): Promise<string> {
  const folders = ['clip', 'clip/child', 'processes'].map((folder) => join(ROOT, 'src/adapters', folder));
  const files = (await Promise.all(folders.map(async (folder) => (await readdir(folder)).map((f) => join(folder, f)))))
    .flat()
    .filter((file) => file.endsWith('.ts'))
    .sort();
  const key = digest(await Promise.all(files.map((file) => readFile(file, 'utf8'))));
  return cached(`clip-adapters-${key}`, async (draft) => {
    const config = join(draft, 'tsconfig.json');
    const compilerOptions = {
      rootDir: join(ROOT, 'src'),
      outDir: draft,
      incremental: false,
      tsBuildInfoFile: null,
      typeRoots: [join(ROOT, 'node_modules/@types')],
    };
    await writeFile(
      config,
      JSON.stringify({ extends: join(ROOT, 'tsconfig.json'), compilerOptions, include: [], files }),
    );
    await writeFile(join(draft, 'package.json'), '{"type":"module"}\n');
    await execa(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', config]);
  });
}

/** Made beside its place and moved there whole, so that two test files may race. */
async function cached(name: string, make: (draft: string) => Promise<void>): Promise<string> {
  const folder = join(CACHE, name);
  if (existsSync(folder)) return folder;
  await mkdir(CACHE, { recursive: true });
  const draft = await mkdtemp(join(CACHE, 'draft-'));
  try {
    await make(draft);
    await rename(draft, folder);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    if (!existsSync(folder)) throw error; // Otherwise another test file was first.
  }
  return folder;
}

const digest = (texts: string[]): string => {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(text).update('\0');
  return hash.digest('hex').slice(0, 12);
};
