/**
 * The embedder process: CLIP on one device, behind a socket. It outlives whoever started it (law 6) and gives its
 * memory back by ending: disposing of a model leaves hundreds of MB on the card.
 *
 * `node main.js --device cpu|cuda --socket <path> --model <name or folder> [--gpu <UUID>] [--gpu-provider cuda]`
 * Environment: VRAMFLOW_CLIP_PART, the folder where the optional part is installed; VRAMFLOW_CLIP_CACHE, where
 * fetched models stay (default: `models` in the part's folder).
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { PROBE_IMAGES, PROBE_TEXTS } from '../probeInputs.js';
import { loadClip } from './clip.js';
import { locateModel } from './model.js';
import { createEmbedderServer } from './server.js';
import { loadTransformers, type Progress } from './transformers.js';

/** How long a failed process stays to tell why. */
const FAILED_STAYS_MS = 5_000;
/** SIGTERM ends the process within 2 s, with or without the requests in flight. */
const TERM_MS = 1_800;

const { values } = parseArgs({
  options: {
    device: { type: 'string' },
    socket: { type: 'string' },
    model: { type: 'string' },
    gpu: { type: 'string' },
    'gpu-provider': { type: 'string', default: 'cuda' },
  },
});
const { socket, model } = values;
const device = values.device === 'cpu' || values.device === 'cuda' ? values.device : null;
if (socket === undefined || model === undefined || device === null) {
  throw new TypeError('Usage: --device cpu|cuda --socket <path> --model <name or folder> [--gpu <UUID>]');
}
const provider = device === 'cuda' ? values['gpu-provider'] : 'cpu';
// Set before the CUDA library loads. On the CPU no GPU is visible: such a process cannot hold VRAM.
if (device === 'cpu') process.env.CUDA_VISIBLE_DEVICES = '';
else if (values.gpu !== undefined) process.env.CUDA_VISIBLE_DEVICES = values.gpu;

const server = createEmbedderServer({ socket, health: { device, provider, model }, onShutdown: () => void end() });

async function end(): Promise<void> {
  await server.drain();
  process.exit(0);
}

process.on('SIGTERM', () => {
  setTimeout(() => process.exit(0), TERM_MS);
  void end();
});

async function load(name: string): Promise<void> {
  const part = process.env.VRAMFLOW_CLIP_PART;
  if (part === undefined)
    throw new Error('part-missing: VRAMFLOW_CLIP_PART does not name the folder of the CLIP part.');
  const transformers = loadTransformers(part);
  const cacheDir = process.env.VRAMFLOW_CLIP_CACHE ?? join(part, 'models');
  const located = locateModel(transformers.env, name, cacheDir);
  const clip = await loadClip(transformers, located, { device: provider, progress_callback: reportDownload() }).catch(
    (error: unknown) => {
      throw notFetched(located, error) ?? error;
    },
  );
  // One run of each tower: the device has then allocated what it needs, and the dimension is known.
  const never = new AbortController().signal;
  const [embedding] = await clip.text([...PROBE_TEXTS], never);
  await clip.images([...PROBE_IMAGES], never);
  server.setReady(clip, embedding?.length ?? 0);
  console.log(`ready: ${name} on ${device} (${provider})`);
}

/** What Node says of a request that did not come through does not name what was asked for. */
function notFetched(repository: string, error: unknown): Error | null {
  if (!(error instanceof TypeError && error.message === 'fetch failed')) return null;
  const reason = error.cause instanceof Error ? error.cause.message : 'no answer';
  const message = `the model ${repository} could not be fetched (${reason}); without a network, name a folder in clip.model_path`;
  return new Error(message, { cause: error });
}

/** Prints each tenth of a download; the launcher shows the lines as progress. */
function reportDownload(): (progress: Progress) => void {
  const tenths = new Map<string, number>();
  return ({ status, file, progress }) => {
    if (status !== 'progress' || file === undefined || progress === undefined) return;
    const tenth = Math.floor(progress / 10);
    if (tenth <= (tenths.get(file) ?? 0)) return;
    tenths.set(file, tenth);
    console.log(`reading ${file}: ${tenth * 10} %`);
  };
}

await server.listen();
try {
  await load(model);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  console.error(error);
  server.setFailed(message);
  await delay(FAILED_STAYS_MS);
  process.exit(1);
}
