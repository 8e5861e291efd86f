/** What vramflow adds to a load: `model load` against the same load by a direct call to Ollama. */
import { afterAll, describe, expect, it } from 'vitest';
import { createOllama } from '../src/adapters/ollama/ollama.js';
import { KEEP_ALIVE } from '../src/agent/keepAlive.js';
import type { OperationOutcome } from '../src/contracts/operation.js';
import { startRealOllama } from '../test/parts/ollama.js';
import { startTemporal } from '../test/parts/temporal.js';
import { type System, startSystem } from '../test/system/system.js';
import { median, ms, type Row, report, samplesOf, spread } from './report.js';

const VLM = 'qwen3-vl:8b';
const signal = () => AbortSignal.timeout(60_000);

describe('model load', () => {
  const rows: Row[] = [];
  afterAll(() => report('A load by `vramflow model load` against a direct call', rows));

  it('on the simulated host, a model of 10.5 GB', async () => {
    const system = await startSystem();
    await measure('simulated, 10.5 GB', system, system.simulator.info.ollama, VLM, 4);
    await system.stop();
  });

  it('on the real Ollama, a tiny model', async (context) => {
    const ollama = await startRealOllama();
    if ('skip' in ollama) return context.skip(ollama.skip);
    const temporal = await startTemporal();
    const system = await startSystem({
      preset: null,
      temporal,
      config: {
        ollama_endpoint: ollama.endpoint,
        vlm_model: ollama.models.first,
        models: { [ollama.models.first]: { vram_mb: 64, allow_cpu: true } },
        gpu: { reader: 'none' },
      },
    });
    await measure('real, tiny', system, ollama.endpoint, ollama.models.first, 8);
    await system.stop();
    await temporal.stop();
    await ollama.stop();
  });

  async function measure(what: string, system: System, endpoint: string, model: string, count: number): Promise<void> {
    const ollama = createOllama(endpoint);
    const unload = () => system.json(['model', 'unload', model]);
    const steps: number[] = [];
    const operations: number[] = [];
    const [direct, vramflow]: [number[], number[]] = [[], []];
    await system.json(['model', 'load', model]); // Learns its size.
    for (let i = 0; i < count; i += 1) {
      await unload();
      direct.push(...(await samplesOf(1, () => ollama.load(model, { signal: signal(), keepAlive: KEEP_ALIVE }))));
      await system.until(
        'the direct load to be seen',
        ({ vlm_state, turns }) => vlm_state === 'loaded' && turns.length === 0,
      );
      await unload();
      vramflow.push(
        ...(await samplesOf(1, async () => {
          const { outcome } = await system.json<{ outcome: OperationOutcome }>(['model', 'load', model]);
          expect(outcome).toMatchObject({ status: 'done', steps: [{ kind: 'load', acted: true }] });
          operations.push(outcome.totalMs);
          steps.push(outcome.steps[0]?.ms ?? Number.NaN);
        })),
      );
    }
    const limit = 1.05 * median(direct) + 100;
    const none = { goal: '', met: null };
    rows.push(
      { what: `${what}: direct call`, measured: spread(direct), ...none },
      {
        what: `${what}: vramflow model load`,
        measured: spread(vramflow),
        goal: `≤ ${ms(limit)}`,
        met: median(vramflow) <= limit,
      },
      { what: '  of it the operation', measured: spread(operations), ...none },
      { what: '  of it the step: load, probe, proof', measured: spread(steps), ...none },
    );
  }
});
