import { requireClip } from '../parts/clip.js';
import { describeEmbedderContract } from './embedderContract.js';

describeEmbedderContract('real', async () => {
  const clip = await requireClip();
  if ('skip' in clip) return clip;
  // A second CPU process stands for the GPU, and says so.
  const env = { VRAMFLOW_CLIP_PART: clip.part };
  return { command: clip.command, env, model: clip.model, gpuProvider: 'cpu', gpu: null, stop: async () => {} };
});
