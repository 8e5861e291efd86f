import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, type TestContext, test } from 'vitest';
import { createEmbedderLauncher, type EmbedderLauncher } from '../../src/adapters/clip/embedder.js';
import { checkEmbeddings } from '../../src/adapters/clip/probe.js';
import { PROBE_IMAGES, PROBE_TEXTS } from '../../src/adapters/clip/probeInputs.js';
import { lives, tempFolder, tidyLater } from '../adapters/processes/owned.js';
import { type Missing, requirePart } from '../parts/parts.js';

/** A program that speaks the embedder's protocol. */
export interface EmbedderUnderTest {
  command: string[];
  env: Record<string, string>;
  model: string;
  /** What computes when it is asked for `cuda`, and the GPU to ask for. */
  gpuProvider: string;
  gpu: string | null;
  stop(): Promise<void>;
}

const soon = (): AbortSignal => AbortSignal.timeout(25_000);

/** What vramflow relies on; runs unchanged against the real CLIP code and against the simulator. */
export function describeEmbedderContract(name: string, find: () => Promise<EmbedderUnderTest | Missing>): void {
  describe(`the embedder contract, ${name}`, () => {
    let found: EmbedderUnderTest | Missing | undefined;
    let program: EmbedderUnderTest;
    let stateDir: string;
    let launcher: EmbedderLauncher;

    beforeAll(async () => {
      found = requirePart(`CLIP (${name})`, await find());
    });
    afterAll(async () => {
      if (found !== undefined && 'stop' in found) await found.stop();
    });
    beforeEach(async (context: TestContext) => {
      if (found === undefined) throw new Error('It was not found.');
      if ('skip' in found) return context.skip(found.skip);
      program = found;
      stateDir = await tempFolder();
      launcher = createEmbedderLauncher({ ...program, stateDir });
      const ended = launcher;
      tidyLater(async () => {
        for (const left of await ended.running()) await ended.end(left, { signal: soon(), graceMs: 0 });
      });
    });

    const start = (device: 'cpu' | 'cuda') => launcher.start(device, { gpu: program.gpu, signal: soon() });

    test('is where it was asked to be, on each device, and both agree (M8, M10)', async () => {
      const [cpu, gpu] = await Promise.all([start('cpu'), start('cuda')]);
      expect(cpu).toMatchObject({ device: 'cpu', provider: 'cpu', dimension: 512 });
      expect(gpu).toMatchObject({ device: 'cuda', provider: program.gpuProvider, dimension: 512 });
      const [first, second] = await Promise.all(
        [cpu, gpu].map(async (each) => [
          ...(await each.embedText([...PROBE_TEXTS], soon())),
          ...(await each.embedImages([...PROBE_IMAGES], soon())),
        ]),
      );
      expect(checkEmbeddings(second ?? [], first ?? null, { dimension: 512, tolerance: 0.001 })).toEqual({ ok: true });
      expect(new Set((await launcher.running()).map(({ pid }) => pid))).toEqual(new Set([cpu.pid, gpu.pid]));
    });

    test('refuses what is no image and goes on', async () => {
      const embedder = await start('cpu');
      const text = Buffer.from('no image').toString('base64');
      await expect(embedder.embedImages([text], soon())).rejects.toMatchObject({ kind: 'bad-input' });
      expect(await embedder.embedText([], soon())).toEqual([]);
      expect(await embedder.alive()).toBe(true);
    });

    test('ends when asked, after the requests in flight, and leaves nothing', async () => {
      const embedder = await start('cpu');
      const inFlight = embedder.embedImages([...PROBE_IMAGES], soon());
      await launcher.end(embedder, { signal: soon(), graceMs: 10_000 });
      expect(await inFlight).toHaveLength(PROBE_IMAGES.length);
      expect(await lives(embedder.pid)).toBe(false);
      expect(await readdir(stateDir)).toEqual([]);
    });

    test('ends by SIGTERM within 2 s', async () => {
      const embedder = await start('cpu');
      process.kill(embedder.pid, 'SIGTERM');
      await expect.poll(() => lives(embedder.pid), { timeout: 2_000 }).toBe(false);
      expect(await embedder.alive()).toBe(false);
    });
  });
}
