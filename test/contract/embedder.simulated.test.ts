import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startSimulator } from '../../src/simulator/simulator.js';
import { describeEmbedderContract } from './embedderContract.js';

const built = existsSync(fileURLToPath(new URL('../../dist/simulator/embedder.js', import.meta.url)));

describeEmbedderContract('simulated', async () => {
  if (!built) return { skip: 'the simulated embedder is a compiled program; `npx tsc -p tsconfig.json` builds it' };
  const simulator = await startSimulator({ preset: 'rtx4090', speed: 10 });
  return {
    command: [...simulator.info.embedder],
    env: {},
    model: 'ViT-B-32',
    gpuProvider: 'cuda',
    gpu: null,
    stop: () => simulator.stop(),
  };
});
