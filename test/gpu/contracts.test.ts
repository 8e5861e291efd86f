/** The contract suites, unchanged, where the parts have a real GPU. */
import { describeEmbedderContract } from '../contract/embedderContract.js';
import { describeGpuReaderContract } from '../contract/gpuReaderContract.js';
import { describeOllamaContract } from '../contract/ollamaContract.js';
import { requireClip } from '../parts/clip.js';
import { startRealOllama } from '../parts/ollama.js';
import { findCard, holdMemory } from './card.js';

const card = await findCard();

describeGpuReaderContract('real', async () => {
  if ('skip' in card) return card;
  return {
    command: ['nvidia-smi'],
    card,
    async hold(mb) {
      const holder = await holdMemory(card, mb);
      return { pid: holder.pid, name: /python/, end: () => holder.kill() };
    },
    stop: async () => {},
  };
});

describeEmbedderContract('on a real GPU', async () => {
  if ('skip' in card) return card;
  const clip = await requireClip();
  if ('skip' in clip) return clip;
  const env = { VRAMFLOW_CLIP_PART: clip.part };
  return { command: clip.command, env, model: clip.model, gpuProvider: 'cuda', gpu: card.uuid, stop: async () => {} };
});

describeOllamaContract('on a real GPU', async () => {
  if ('skip' in card) return card;
  const server = await startRealOllama({ maxLoadedModels: 2 });
  if ('skip' in server) return server;
  const { first, second, embedder } = server.models;
  return { ...server, crowd: [first, second, embedder], speed: 1 };
});
