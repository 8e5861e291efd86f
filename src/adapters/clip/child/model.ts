/** Where a model's name leads: a local folder, or a repository that transformers fetches into the cache. */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';

import type { Transformers } from './transformers.js';

/** OpenCLIP's names, which the configuration uses, and the repositories that carry these models as ONNX. */
const KNOWN: Record<string, string> = {
  'ViT-B-32': 'Xenova/clip-vit-base-patch32',
  'ViT-B-16': 'Xenova/clip-vit-base-patch16',
  'ViT-L-14': 'Xenova/clip-vit-large-patch14',
};

/**
 * Sets where transformers may look, and answers what to load the model by.
 * @param model a folder with `config.json` and `onnx/`, a name above, or `owner/name` of a repository
 * @param cacheDir where fetched models stay
 */
export function locateModel(env: Transformers['env'], model: string, cacheDir: string): string {
  if (existsSync(join(model, 'config.json'))) {
    env.allowRemoteModels = false;
    // With the cache on, a file cached earlier under the same name would win over the folder.
    env.useFSCache = false;
    return resolve(model);
  }
  const repository = KNOWN[model] ?? model;
  if (!/^[\w.-]+\/[\w.-]+$/.test(repository)) {
    throw new Error(
      `The CLIP model ${model} is neither a folder with a config.json nor a known name (${Object.keys(KNOWN).join(', ')}, or owner/name).`,
    );
  }
  env.allowRemoteModels = true;
  env.useFSCache = true;
  env.cacheDir = cacheDir;
  return repository;
}
