import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { usedOver, violations } from '../../src/simulator/record.js';
import { type Request, TestHost } from './host.js';

const MODELS = ['qwen3-vl:8b', 'llava:7b', 'qwen2.5:14b', 'nomic-embed-text:latest', 'big:70b'];

const step = fc.record({
  action: fc.constantFrom('request', 'release', 'abort', 'unload', 'crash', 'wait' as const),
  model: fc.constantFrom(...MODELS),
  numCtx: fc.constantFrom(2048, 8192),
  ms: fc.integer({ min: 0, max: 6000 }),
});

/** A client goes: its request ends, however far it came. */
function leave(request: Request | undefined): void {
  request?.abort();
  request?.lease?.release();
}

it('whatever is asked of the simulated Ollama, no card is over its total and all comes back', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.integer({ min: 0, max: 1000 }), async (steps, seed) => {
      const host = new TestHost('rtx4090', seed);
      const open: Request[] = [];
      for (const { action, model, numCtx, ms } of steps) {
        if (action === 'request') open.push(host.request(model, { numCtx }));
        if (action === 'release') open.find(({ lease }) => lease !== null)?.lease?.release();
        if (action === 'abort') leave(open.pop());
        if (action === 'unload') void host.scheduler.expire(model);
        if (action === 'crash') host.scheduler.loaded.get(model)?.crash();
        await host.clock.advance(ms);
      }
      expect(violations(host.recorder.entries)).toEqual([]);
      open.forEach(leave);
      await host.clock.advance(120_000);
      for (const name of host.scheduler.loaded.keys()) void host.scheduler.expire(name);
      await host.clock.advance(60_000);
      expect([...host.scheduler.loaded.keys()]).toEqual([]);
      expect([...usedOver(host.recorder.entries).values()].map((points) => points.at(-1)?.usedMb)).toEqual([14]);
    }),
    { numRuns: 60 },
  );
});
