import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, it, vi } from 'vitest';

import { clipEnvironment, findClipPart, installClipPart } from '../../../src/adapters/clip/part.js';
import { tempFolder, tidyLater } from '../processes/owned.js';

const PART = fileURLToPath(new URL('../../../parts/clip', import.meta.url));
const PINNED = (JSON.parse(await readFile(join(PART, 'package.json'), 'utf8')) as { dependencies: object })
  .dependencies;
const VERSION = (PINNED as Record<string, string>)['@huggingface/transformers'] ?? '';
const linuxX64 = process.platform === 'linux' && process.arch === 'x64';

/** The files that a whole installation is known by. */
async function pretendInstalled(folder: string, { version = VERSION, done = true } = {}): Promise<void> {
  const library = join(folder, 'node_modules/@huggingface/transformers');
  await mkdir(library, { recursive: true });
  await writeFile(join(library, 'package.json'), JSON.stringify({ version }));
  if (done) await writeFile(join(folder, 'node_modules/.package-lock.json'), '{}');
}

/** Puts an `npm` first on the PATH that is this shell script. */
async function fakeNpm(script: string): Promise<void> {
  const folder = await tempFolder();
  await writeFile(join(folder, 'npm'), `#!/bin/sh\n${script}\n`);
  await chmod(join(folder, 'npm'), 0o755);
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env['PATH']}`);
  tidyLater(() => void vi.unstubAllEnvs());
}

/** Installs what npm would, with a CUDA script of the given content. */
const npmThatWorks = (cudaScript: string) => `
[ "$1" = ci ] && [ -f package-lock.json ] && [ "$ONNXRUNTIME_NODE_INSTALL" = skip ] || exit 9
mkdir -p node_modules/@huggingface/transformers node_modules/onnxruntime-node/script
echo '{"version":"${VERSION}"}' > node_modules/@huggingface/transformers/package.json
echo '{}' > node_modules/.package-lock.json
cat > node_modules/onnxruntime-node/script/install.js <<'END'
${cudaScript}
END
echo added 43 packages`;

const CUDA_ARRIVES = `
if (process.env.ONNXRUNTIME_NODE_INSTALL !== 'cuda12') process.exit(8);
const folder = __dirname + '/../bin/napi-v6/linux/x64';
require('fs').mkdirSync(folder, { recursive: true });
require('fs').writeFileSync(folder + '/libonnxruntime_providers_cuda.so', '');`;

describe('the place of the CLIP part', () => {
  it('is the data folder, then the repository', async () => {
    const [dataDir, repoRoot] = [await tempFolder(), await tempFolder()];
    await pretendInstalled(join(repoRoot, 'parts/clip'));
    expect(findClipPart({ dataDir, repoRoot })).toEqual({ folder: join(repoRoot, 'parts/clip'), cuda: false });
    await pretendInstalled(join(dataDir, 'parts/clip'));
    const found = findClipPart({ dataDir, repoRoot });
    expect(found).toEqual({ folder: join(dataDir, 'parts/clip'), cuda: false });
    expect(clipEnvironment({ folder: 'f' }, dataDir)).toEqual({
      VRAMFLOW_CLIP_PART: 'f',
      VRAMFLOW_CLIP_CACHE: join(dataDir, 'models/clip'),
    });
  });

  it('is missing, with reason and remedy, when nothing whole of the right version is there', async () => {
    const [dataDir, repoRoot] = [await tempFolder(), await tempFolder()];
    const missing = () => JSON.stringify(findClipPart({ dataDir, repoRoot }));
    expect(missing()).toContain('Run vramflow clip install');
    await pretendInstalled(join(dataDir, 'parts/clip'), { done: false });
    expect(missing()).toContain('was cut off');
    await pretendInstalled(join(dataDir, 'parts/clip'), { version: '0.0.1' });
    expect(missing()).toContain(`has version 0.0.1, vramflow needs ${VERSION}`);
  });
});

describe.runIf(linuxX64)('the installation of the CLIP part', () => {
  async function install(script: string, nvidia: boolean, signal = AbortSignal.timeout(20_000)) {
    await fakeNpm(script);
    const dataDir = await tempFolder();
    const lines: string[] = [];
    const result = await installClipPart({ dataDir, onLine: (line) => lines.push(line), signal, nvidia });
    return { result, text: lines.join('\n'), found: findClipPart({ dataDir, repoRoot: dataDir }) };
  }

  it('asks for no CUDA where there is no NVIDIA GPU', async () => {
    const { result, found, text } = await install(npmThatWorks('process.exit(7)'), false);
    expect(result.cuda).toBe('not-needed');
    expect(found).toEqual({ folder: result.folder, cuda: false });
    expect(text).toContain('added 43 packages');
  });

  it('fetches CUDA where there is one', async () => {
    const { result, found } = await install(npmThatWorks(CUDA_ARRIVES), true);
    expect(result.cuda).toBe('installed');
    expect(found).toEqual({ folder: result.folder, cuda: true });
  });

  it('keeps the CPU and says what happened when CUDA cannot be fetched', async () => {
    const { result, found, text } = await install(npmThatWorks('throw new Error("HTTP status code = 403")'), true);
    expect(result.cuda).toBe('failed');
    expect(found).toEqual({ folder: result.folder, cuda: false });
    expect(text).toMatch(/could not be fetched: .*HTTP status code = 403/);
    expect(text).toContain('To try again: vramflow clip install');
  });

  it('fails with the last words of npm and a remedy', async () => {
    await expect(install('echo "npm error network" >&2; exit 1', false)).rejects.toMatchObject({
      kind: 'part-missing',
      message: expect.stringContaining('npm error network') as string,
      remedy: expect.stringContaining('vramflow clip install') as string,
    });
  });

  it('stops npm on abort', async () => {
    await fakeNpm('echo $$ > pid; echo started; exec sleep 60');
    const dataDir = await tempFolder();
    const stop = new AbortController();
    const onLine = (line: string) => line === 'started' && stop.abort(new Error('never mind'));
    const installing = installClipPart({ dataDir, onLine, signal: stop.signal, nvidia: false });
    await expect(installing).rejects.toThrow('never mind');
    const pid = (await readFile(join(dataDir, 'parts/clip/pid'), 'utf8')).trim();
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });
});
