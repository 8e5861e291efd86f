/** The real CLIP code on a tiny model and real images. Two processes stand for the two devices. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { PNG } from 'pngjs';
import { afterAll, beforeAll, describe, expect, it, type TestContext } from 'vitest';

import {
  createEmbedderLauncher,
  type EmbedderLauncher,
  type EmbedderProcess,
  type LauncherOptions,
} from '../../../src/adapters/clip/embedder.js';
import { findClipPart } from '../../../src/adapters/clip/part.js';
import { checkEmbeddings } from '../../../src/adapters/clip/probe.js';
import { PROBE_IMAGES, PROBE_TEXTS } from '../../../src/adapters/clip/probeInputs.js';
import { type RealClip, requireClip } from '../../parts/clip.js';
import { lives, tempFolder, tidyLater } from '../processes/owned.js';

const soon = () => AbortSignal.timeout(25_000);
const expected = { dimension: 512, tolerance: 1e-6 };

/** The image library inside the part. */
type Sharp = (bytes: Buffer) => { jpeg(options: object): { toBuffer(): Promise<Buffer> } };

const clip = await requireClip();

/** A photograph of nothing: colours that run and a disc, different for each seed. */
function picture(seed: number, [width, height]: [number, number] = [320, 200]): string {
  const png = new PNG({ width, height });
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [i % width, Math.floor(i / width)];
    const disc = Math.hypot(x - 40 - seed * 60, y - height / 2) < 30;
    png.data.set(disc ? [255, 40 * seed, 0, 255] : [x % 256, (y * (seed + 1)) % 256, 90, 255], i * 4);
  }
  return PNG.sync.write(png).toString('base64');
}

const cosine = (a: number[] = [], b: number[] = []) =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? Number.NaN), 0);

function launcherWith(real: RealClip, stateDir: string, more: Partial<LauncherOptions> = {}): EmbedderLauncher {
  const env = { VRAMFLOW_CLIP_PART: real.part };
  const options = { command: real.command, model: real.model, stateDir, gpuProvider: 'cpu', env, ...more };
  tidyLater(async () => {
    const launcher = createEmbedderLauncher(options);
    for (const left of await launcher.running()) await launcher.end(left, { signal: soon(), graceMs: 0 });
  });
  return createEmbedderLauncher(options);
}

describe('the real CLIP embedder', () => {
  /** One process for the tests that only ask it things. */
  let shared: EmbedderProcess;
  let endShared = async () => {};

  beforeAll(async () => {
    if ('skip' in clip) return;
    const stateDir = await mkdtemp(join(tmpdir(), 'vramflow-test-'));
    const options = { command: clip.command, model: clip.model, stateDir, gpuProvider: 'cpu' };
    const launcher = createEmbedderLauncher({ ...options, env: { VRAMFLOW_CLIP_PART: clip.part } });
    shared = await launcher.start('cpu', { gpu: null, signal: soon() });
    endShared = async () => {
      await launcher.end(shared, { signal: soon(), graceMs: 5_000 });
      await rm(stateDir, { recursive: true });
    };
  });
  afterAll(() => endShared());

  /** The part, or a skip that says why. */
  const part = (context: TestContext): RealClip => ('skip' in clip ? context.skip(clip.skip) : clip);

  it('gives valid embeddings of texts and of images, different for different ones', async (context) => {
    part(context);
    const embeddings = [
      ...(await shared.embedText(['a red button', 'a blue field', ''], soon())),
      ...(await shared.embedImages([picture(0), picture(1), picture(2, [50, 300])], soon())),
    ];
    expect(shared).toMatchObject({ device: 'cpu', provider: 'cpu', dimension: 512 });
    expect(checkEmbeddings(embeddings, null, expected)).toEqual({ ok: true });
    for (const [i, a] of embeddings.entries()) {
      for (const b of embeddings.slice(i + 1)) expect(cosine(a, b)).toBeLessThan(0.9999);
    }
    expect(await shared.embedText([], soon())).toEqual([]);
  });

  it('reads JPEG files as well', async (context) => {
    const sharp = createRequire(join(part(context).part, 'package.json'))('sharp') as Sharp;
    const jpeg = await sharp(Buffer.from(picture(1), 'base64'))
      .jpeg({ quality: 95 })
      .toBuffer();
    const [png, same, other] = await shared.embedImages([picture(1), jpeg.toString('base64'), picture(2)], soon());
    expect(cosine(png, same)).toBeGreaterThan(0.98);
    expect(cosine(png, same)).toBeGreaterThan(cosine(png, other));
  });

  it('gives long texts embeddings of their own, from their first 77 tokens', async (context) => {
    part(context);
    const rest = ' and so on'.repeat(60);
    const texts = [`one cat${rest}`, `two dogs${rest}`, `one cat${rest} to another end`, 'one cat'];
    const [cat, dogs, longer, short] = await shared.embedText(texts, soon());
    expect(checkEmbeddings([cat ?? [], dogs ?? []], null, expected)).toEqual({ ok: true });
    expect(cosine(cat, dogs)).toBeLessThan(0.9999);
    expect(cosine(cat, short)).toBeLessThan(0.9999);
    expect(cosine(cat, longer)).toBeGreaterThan(0.999999);
  });

  it('answers more inputs than fit one run, each as if it had come alone', async (context) => {
    part(context);
    const texts = Array.from({ length: 19 }, (_, i) => `text number ${i}`);
    const together = await shared.embedText(texts, soon());
    const alone = await Promise.all(texts.map(async (text) => (await shared.embedText([text], soon()))[0] ?? []));
    expect(checkEmbeddings(together, alone, expected)).toEqual({ ok: true });
  });

  it('refuses what is no image, by its number, and goes on', async (context) => {
    part(context);
    const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>').toString('base64');
    const cut = picture(1).slice(0, 400);
    for (const bad of ['', 'no base64 !', svg, cut]) {
      const answer = shared.embedImages([picture(0), bad], soon());
      await expect(answer).rejects.toMatchObject({
        kind: 'bad-input',
        message: expect.stringContaining('Image 1') as string,
      });
    }
    expect(await shared.alive()).toBe(true);
    expect(checkEmbeddings(await shared.embedImages([picture(0)], soon()), null, expected)).toEqual({ ok: true });
  });

  it('moves: a second process agrees with the first, which then ends after its requests', async (context) => {
    const stateDir = await tempFolder();
    const launcher = launcherWith(part(context), stateDir);
    const lines: string[] = [];
    const old = await launcher.start('cpu', { gpu: null, signal: soon() });
    const next = await launcher.start('cuda', { gpu: null, signal: soon(), onProgress: (line) => lines.push(line) });
    // Truthful: asked for as cuda, computed by the CPU that stands for it.
    expect(next).toMatchObject({ device: 'cuda', provider: 'cpu', dimension: 512 });
    expect(lines.join()).toContain('vision_model.onnx');
    const probe = async (embedder: EmbedderProcess) => [
      ...(await embedder.embedText([...PROBE_TEXTS], soon())),
      ...(await embedder.embedImages([...PROBE_IMAGES], soon())),
    ];
    expect(checkEmbeddings(await probe(next), await probe(old), expected)).toEqual({ ok: true });

    const inFlight = old.embedImages(
      Array.from({ length: 24 }, () => picture(1)),
      soon(),
    );
    await launcher.end(old, { signal: soon(), graceMs: 10_000 });
    expect(await inFlight).toHaveLength(24);
    expect([await lives(old.pid), await old.alive()]).toEqual([false, false]);
    expect((await launcher.running()).map(({ pid }) => pid)).toEqual([next.pid]);
    await launcher.end(next, { signal: soon(), graceMs: 10_000 });
    expect(await readdir(stateDir)).toEqual([]);
  });

  it('outlives a manager that is killed, and is adopted by the next', async (context) => {
    const real = part(context);
    const stateDir = await tempFolder();
    const launcher = launcherWith(real, stateDir);
    const options = { command: real.command, model: real.model, stateDir, gpuProvider: 'cpu' };
    const manager = `
      import { createEmbedderLauncher } from ${JSON.stringify(join(real.compiled, 'adapters/clip/embedder.js'))};
      const launcher = createEmbedderLauncher({ ...${JSON.stringify(options)}, env: { VRAMFLOW_CLIP_PART: ${JSON.stringify(real.part)} } });
      const { pid } = await launcher.start('cpu', { gpu: null, signal: AbortSignal.timeout(20000) });
      console.log(pid);
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', manager], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    tidyLater(() => void child.kill('SIGKILL'));
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const killed = once(child, 'exit');
    child.kill('SIGKILL');
    await killed;

    const [adopted, ...others] = await launcher.running();
    expect(others).toEqual([]);
    expect(adopted).toMatchObject({ pid: Number(line), device: 'cpu', provider: 'cpu', dimension: 512 });
    expect(adopted?.startedMsAgo).toBeGreaterThan(0);
    expect(await adopted?.alive()).toBe(true);
    expect(checkEmbeddings((await adopted?.embedText(['still here'], soon())) ?? [], null, expected)).toEqual({
      ok: true,
    });
    if (adopted !== undefined) await launcher.end(adopted, { signal: soon(), graceMs: 5_000 });
    expect(await lives(Number(line))).toBe(false);
    expect(await launcher.running()).toEqual([]);
  });

  it('fails on cuda without its libraries, and does not fall back', async (context) => {
    const real = part(context);
    const found = findClipPart({ dataDir: join(real.part, '../..'), repoRoot: join(real.part, '../..') });
    if ('cuda' in found && found.cuda) context.skip('this machine has the CUDA libraries');
    const stateDir = await tempFolder();
    const start = launcherWith(real, stateDir, { gpuProvider: 'cuda' }).start('cuda', { gpu: 'GPU-0', signal: soon() });
    await expect(start).rejects.toMatchObject({
      kind: 'no-cuda',
      remedy: expect.stringContaining('CUDA 12') as string,
    });
    expect(await readdir(stateDir)).toEqual([]);
  });

  it('says which part or model is missing, and leaves nothing', async (context) => {
    const real = part(context);
    const stateDir = await tempFolder();
    const noPart = launcherWith(real, stateDir, { env: { VRAMFLOW_CLIP_PART: stateDir } });
    await expect(noPart.start('cpu', { gpu: null, signal: soon() })).rejects.toMatchObject({ kind: 'part-missing' });
    const noModel = launcherWith(real, stateDir, { model: '/no/such/model' });
    const start = noModel.start('cpu', { gpu: null, signal: soon() });
    await expect(start).rejects.toMatchObject({
      kind: 'start-failed',
      message: expect.stringContaining('/no/such/model') as string,
    });
    expect(await readdir(stateDir)).toEqual([]);
  });
});
