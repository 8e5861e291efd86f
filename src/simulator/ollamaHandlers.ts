import { OllamaError } from './errors.js';
import { answer, embedding, type Piece } from './inference.js';
import { type ModelRequest, runnerOptions } from './ollamaRequest.js';
import type { RunnerDependencies } from './ollamaRunner.js';
import type { Lease, OllamaScheduler } from './ollamaScheduler.js';
import { digestOf, fileBytes } from './ollamaShapes.js';
import type { ModelSpec } from './presets.js';
import { unitVector } from './vectors.js';

/** What the handlers work with. */
export interface OllamaContext extends RunnerDependencies {
  readonly scheduler: OllamaScheduler;
  readonly models: readonly ModelSpec[];
}

/** An answer: one JSON object, or a stream of them, one a line. */
export type Answer = { readonly json: object } | { readonly stream: AsyncIterable<object> };

/** As the real server finds them: without ':latest', with its own registry and 'library/' before, in any case. */
export function findModel(context: OllamaContext, name: string): ModelSpec | undefined {
  const short = name.toLowerCase().replace(/^(registry\.ollama\.ai\/)?library\//, '');
  const wanted = short.includes(':') ? short : `${short}:latest`;
  return context.models.find((model) => model.name === wanted);
}

/** POST /api/generate: answers, only loads (empty prompt), or unloads (empty prompt, keep-alive 0). */
export async function generate(context: OllamaContext, request: ModelRequest, signal: AbortSignal): Promise<Answer> {
  const model = findModel(context, request.model);
  if (model === undefined) throw new OllamaError(404, `model '${request.model}' not found`);
  const shape = (text: string): object => ({ response: text });
  if (request.prompt === '' && isUnload(request)) return unload(context, model, request, shape(''));
  return complete(context, model, request, request.prompt, shape, 'generate', signal);
}

/** POST /api/chat, as generate. */
export async function chat(context: OllamaContext, request: ModelRequest, signal: AbortSignal): Promise<Answer> {
  const model = findModel(context, request.model);
  const shape = (text: string): object => ({ message: { role: 'assistant', content: text } });
  const unloads = request.messages.length === 0 && isUnload(request);
  if (model === undefined) {
    if (unloads) throw new OllamaError(404, `model '${request.model}' not found`);
    if (request.model === '') throw new OllamaError(400, 'model is required');
    throw new OllamaError(404, `model "${request.model}" not found, try pulling it first`);
  }
  if (unloads) return unload(context, model, request, shape(''));
  const prompt = request.messages.length === 0 ? '' : JSON.stringify(request.messages);
  return complete(context, model, request, prompt, shape, 'chat', signal);
}

/** POST /api/embed. Any model can embed; no input only loads. */
export async function embed(context: OllamaContext, request: ModelRequest, signal: AbortSignal): Promise<Answer> {
  const model = findModel(context, request.model);
  if (model === undefined) throw new OllamaError(404, `model "${request.model}" not found, try pulling it first`);
  const startedMs = context.clock.now();
  const lease = await acquire(context, model, request, signal);
  const loadMs = context.clock.now() - startedMs;
  try {
    if (request.input.length === 0) return { json: { model: request.model, embeddings: [] } };
    await embedding(lease.runner, request.input.length, signal, context);
    const embeddings = request.input.map((text) => unitVector(`${model.name} ${text}`, model.embeddingLength));
    const times = {
      total_duration: nanoseconds(context.clock.now() - startedMs),
      load_duration: nanoseconds(loadMs),
      prompt_eval_count: request.input.reduce((sum, text) => sum + Math.ceil(text.length / 4), 0),
    };
    return { json: { model: request.model, embeddings, ...times } };
  } finally {
    lease.release();
  }
}

/** POST /api/pull of a model that is there: its layers are checked, nothing is fetched. */
export async function pull(context: OllamaContext, request: ModelRequest): Promise<Answer> {
  const model = findModel(context, request.model);
  if (model === undefined) {
    const error = 'pull model manifest: file does not exist';
    if (!request.stream) throw new OllamaError(500, error);
    return { stream: lines({ status: 'pulling manifest' }, { error }) };
  }
  if (!request.stream) return { json: { status: 'success' } };
  const digest = `sha256:${digestOf(model)}`;
  const total = fileBytes(model);
  return {
    stream: lines(
      { status: 'pulling manifest' },
      { status: `pulling ${digestOf(model).slice(0, 12)}`, digest, total, completed: total },
      { status: 'verifying sha256 digest' },
      { status: 'writing manifest' },
      { status: 'success' },
    ),
  };
}

async function complete(
  context: OllamaContext,
  model: ModelSpec,
  request: ModelRequest,
  prompt: string,
  shape: (text: string) => object,
  verb: string,
  signal: AbortSignal,
): Promise<Answer> {
  if (!model.capabilities.includes('completion')) {
    throw new OllamaError(400, `"${request.model}" does not support ${verb}`);
  }
  const startedMs = context.clock.now();
  const lease = await acquire(context, model, request, signal);
  if (prompt === '') {
    lease.release();
    return { json: { ...head(context, request), ...shape(''), done: true, done_reason: 'load' } };
  }
  const loadMs = context.clock.now() - startedMs;
  const pieces = answer(lease.runner, prompt, request.options.num_predict, signal, context);
  const toLine = (piece: Piece, text: string): object =>
    piece.done === null
      ? { ...head(context, request), ...shape(text), done: false }
      : { ...head(context, request), ...shape(text), ...ending(piece, loadMs, context.clock.now() - startedMs) };
  if (request.stream) return { stream: streamed(pieces, toLine, lease) };
  try {
    let text = '';
    let last: Piece | undefined;
    for await (const piece of pieces) {
      text += piece.text;
      last = piece;
    }
    if (last === undefined) throw new OllamaError(500, 'no answer');
    return { json: toLine(last, text) };
  } finally {
    lease.release();
  }
}

async function* streamed(
  pieces: AsyncIterable<Piece>,
  toLine: (piece: Piece, text: string) => object,
  lease: Lease,
): AsyncGenerator<object> {
  try {
    for await (const piece of pieces) yield toLine(piece, piece.text);
  } finally {
    lease.release();
  }
}

function acquire(context: OllamaContext, model: ModelSpec, request: ModelRequest, signal: AbortSignal): Promise<Lease> {
  const options = runnerOptions(request.options);
  return context.scheduler.acquire({ model, options, keepAliveMs: request.keepAliveMs, signal });
}

async function unload(context: OllamaContext, model: ModelSpec, request: ModelRequest, shape: object): Promise<Answer> {
  if (context.faults.take('unload-ignored', { model: model.name }) === null) await context.scheduler.expire(model.name);
  return { json: { ...head(context, request), ...shape, done: true, done_reason: 'unload' } };
}

/** Ollama compares whole seconds, so half a second is an unload too. */
function isUnload(request: ModelRequest): boolean {
  return request.keepAliveMs !== null && Math.trunc(request.keepAliveMs / 1000) === 0;
}

function head(context: OllamaContext, request: ModelRequest): object {
  return { model: request.model, created_at: context.clock.dateOf(context.clock.now()).toISOString() };
}

function ending(piece: Piece, loadMs: number, totalMs: number): object {
  return {
    done: true,
    done_reason: piece.done,
    total_duration: nanoseconds(totalMs),
    load_duration: nanoseconds(loadMs),
    prompt_eval_count: piece.promptTokens,
    prompt_eval_duration: nanoseconds(piece.promptMs),
    eval_count: piece.words,
    eval_duration: nanoseconds(piece.wordsMs),
  };
}

/** Go writes durations in nanoseconds. */
function nanoseconds(ms: number): number {
  return Math.round(ms * 1e6);
}

async function* lines(...objects: object[]): AsyncGenerator<object> {
  yield* objects;
}
