import { startSimulator } from '../../src/simulator/simulator.js';
import { describeOllamaContract } from './ollamaContract.js';

const SPEED = 10;

describeOllamaContract('simulated', async () => {
  const simulator = await startSimulator({ preset: 'rtx4090', speed: SPEED });
  return {
    endpoint: simulator.info.ollama,
    models: { first: 'qwen3-vl:8b', second: 'llava:7b', embedder: 'nomic-embed-text:latest' },
    // 10.5 and 11.5 GB fit on 24 GB; another 6.2 do not.
    crowd: ['qwen3-vl:8b', 'qwen2.5:14b', 'llava:7b'],
    speed: SPEED,
    stop: () => simulator.stop(),
  };
});
