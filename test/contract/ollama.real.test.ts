import { startRealOllama } from '../parts/ollama.js';
import { describeOllamaContract } from './ollamaContract.js';

describeOllamaContract('real', async () => {
  const server = await startRealOllama({ maxLoadedModels: 2 });
  if ('skip' in server) return server;
  const { first, second, embedder } = server.models;
  return { ...server, crowd: [first, second, embedder], speed: 1 };
});
