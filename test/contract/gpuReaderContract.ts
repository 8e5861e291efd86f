import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type TestContext } from 'vitest';
import { chooseReader } from '../../src/adapters/gpu/chooseReader.js';
import { createNvidiaSmiReader } from '../../src/adapters/gpu/nvidiaSmi.js';
import type { GpuReader } from '../../src/adapters/gpu/reader.js';
import { record } from '../adapters/gpu/smiScript.js';
import type { Missing } from '../parts/parts.js';

/** A card that nobody else uses, and the nvidia-smi that shows it. */
export interface CardUnderTest {
  command: string[];
  card: { uuid: string; index: number; totalMb: number };
  /** A program that takes so much; a real one takes some hundred MB more, for its context. */
  hold(mb: number): Promise<{ pid: number; name: RegExp; end(): Promise<void> }>;
  stop(): Promise<void>;
}

/** The most that a driver takes for a process beside what that asked for, MB; an H200 took 518 (2026-11-26). */
const CONTEXT_MB = 1_000;
const clock = { now: () => performance.now() };

export function describeGpuReaderContract(name: string, find: () => Promise<CardUnderTest | Missing>): void {
  describe(`the GPU reader contract, ${name}`, () => {
    let found: CardUnderTest | Missing | undefined;
    let host: CardUnderTest;
    let reader: GpuReader | undefined;

    beforeAll(async () => {
      found = await find();
    });
    afterAll(async () => {
      if (found !== undefined && 'stop' in found) await found.stop();
    });
    beforeEach((context: TestContext) => {
      if (found === undefined) throw new Error('It was not found.');
      if ('skip' in found) return context.skip(found.skip);
      host = found;
    });
    afterEach(async () => {
      await reader?.stop();
      reader = undefined;
    });

    it('is chosen', async () => {
      const { reader, warning } = await chooseReader({ command: host.command, clock });
      expect([reader.kind, warning]).toEqual(['nvidia-smi', null]);
    });

    it('reads the card, follows its memory and lists its processes', async () => {
      reader = createNvidiaSmiReader({ command: host.command, clock, hangAfterMs: 2_000 });
      reader.setPeriod(100);
      const seen = record(reader);
      const first = await seen.until(({ gpus }) => gpus[0]?.health === 'ok', 0);
      const { uuid, index, totalMb } = host.card;
      expect(first.gpus).toMatchObject([{ uuid, index, totalMb, problem: null }]);
      const before = first.gpus[0]?.usedMb ?? Number.NaN;
      await seen.until(({ processes }) => processes?.length === 0);

      const game = await host.hold(3_000);
      const grown = await seen.until(({ processes }) => (processes?.[0]?.usedMb ?? 0) >= 3_000);
      expect(grown.processes).toMatchObject([
        { uuid, pid: game.pid, name: expect.stringMatching(game.name) as string },
      ]);
      expect(grown.processes?.[0]?.usedMb).toBeLessThan(3_000 + CONTEXT_MB);
      const { gpus } = await seen.until(({ gpus }) => (gpus[0]?.usedMb ?? 0) >= before + 3_000);
      expect(gpus[0]?.usedMb).toBeLessThan(before + 3_000 + CONTEXT_MB);
      expect((gpus[0]?.usedMb ?? 0) + (gpus[0]?.freeMb ?? 0)).toBeLessThanOrEqual(totalMb);

      await game.end();
      await seen.until(
        ({ processes, gpus }) => processes?.length === 0 && (gpus[0]?.usedMb ?? Infinity) < before + 100,
      );
      for (const { gpus, problem, processes } of seen.samples) {
        expect(problem).toBeNull();
        // To its very end, which the driver shows without a name.
        for (const one of processes ?? []) expect(one.name).toMatch(game.name);
        expect(gpus.map(({ health, problem }) => [health, problem])).toEqual([['ok', null]]);
      }
    });
  });
}
