import { type Clock, sleep } from './clock.js';
import type { FaultBoard } from './faults.js';
import type { GpuHost } from './gpuHost.js';
import type { OllamaRunner } from './ollamaRunner.js';

/** Simulated ms for the prompt, for each word, and for a text that is embedded. */
const PROMPT_MS = 120;
const WORD_MS = 20;
const EMBED_MS = 30;

/** Words of an answer when the request sets no `num_predict`. */
const DEFAULT_WORDS = 16;
const WORDS = ['The', ' window', ' shows', ' a', ' form', ' with', ' two', ' fields', ' and', ' a', ' button', '.'];

interface InferenceDependencies {
  readonly clock: Clock;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
}

/** One piece of an answer; the last one has `done`. Durations in simulated ms. */
export interface Piece {
  readonly text: string;
  readonly done: 'stop' | 'length' | null;
  readonly promptTokens: number;
  readonly words: number;
  readonly promptMs: number;
  readonly wordsMs: number;
}

/**
 * Answers word by word, on the cards of the runner.
 * Throws the signal's reason when the client leaves, Ollama's error when the runner dies.
 */
export async function* answer(
  runner: OllamaRunner,
  prompt: string,
  numPredict: unknown,
  signal: AbortSignal,
  dependencies: InferenceDependencies,
): AsyncGenerator<Piece> {
  const limited = typeof numPredict === 'number' && numPredict > 0;
  const limit = limited ? Math.trunc(numPredict) : DEFAULT_WORDS;
  const promptTokens = Math.max(1, Math.ceil(prompt.length / 4));
  const ends = AbortSignal.any([signal, runner.dead]);
  const idle = occupy(runner, dependencies.gpuHost);
  try {
    await begin(runner, ends, dependencies);
    await sleep(dependencies.clock, PROMPT_MS, ends);
    for (let word = 0; word < limit; word++) {
      await sleep(dependencies.clock, WORD_MS, ends);
      yield piece(WORDS[word % WORDS.length] ?? '', null, promptTokens, word + 1);
    }
    yield piece('', limited ? 'length' : 'stop', promptTokens, limit);
  } finally {
    idle();
  }
}

/** Takes the time that embedding `count` texts takes; ends as `answer` does. */
export async function embedding(
  runner: OllamaRunner,
  count: number,
  signal: AbortSignal,
  dependencies: InferenceDependencies,
): Promise<void> {
  const ends = AbortSignal.any([signal, runner.dead]);
  const idle = occupy(runner, dependencies.gpuHost);
  try {
    await begin(runner, ends, dependencies);
    await sleep(dependencies.clock, EMBED_MS * count, ends);
  } finally {
    idle();
  }
}

/** The faults that strike at the begin of an inference. */
async function begin(runner: OllamaRunner, signal: AbortSignal, dependencies: InferenceDependencies): Promise<void> {
  const { clock, faults } = dependencies;
  const context = { model: runner.model.name };
  if (faults.take('runner-crash', context) !== null) runner.crash();
  signal.throwIfAborted();
  if (faults.take('generate-hang', context) === null) return;
  const released = new AbortController();
  const unwatch = faults.onceCleared('generate-hang', () => released.abort(new Error('cleared')));
  try {
    await sleepForEver(clock, AbortSignal.any([signal, released.signal]));
  } catch (error) {
    if (signal.aborted || !released.signal.aborted) throw error;
  } finally {
    unwatch();
  }
}

function sleepForEver(clock: Clock, signal: AbortSignal): Promise<void> {
  return sleep(clock, Number.POSITIVE_INFINITY, signal);
}

/** Marks the runner's cards as working until the returned function is called. */
function occupy(runner: OllamaRunner, gpuHost: GpuHost): () => void {
  const cards = Object.keys(runner.placement.vramMb).map((gpu) => gpuHost.card(gpu));
  for (const card of cards) card.busy++;
  return () => {
    for (const card of cards) card.busy--;
  };
}

function piece(text: string, done: Piece['done'], promptTokens: number, words: number): Piece {
  return { text, done, promptTokens, words, promptMs: PROMPT_MS, wordsMs: words * WORD_MS };
}
