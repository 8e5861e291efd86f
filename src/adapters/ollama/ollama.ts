import type { Ollama as Client } from 'ollama';
import type { ZodType } from 'zod';
import {
  embedAnswer,
  generateAnswer,
  generateChunk,
  psAnswer,
  read,
  showAnswer,
  tagsAnswer,
  versionAnswer,
} from './answers.js';
import {
  cutOffError,
  OllamaError,
  protocolError,
  type RequestContext,
  reportedError,
  transportError,
} from './ollamaError.js';
import { withClient } from './transport.js';

export { normalName, sameModel } from './modelName.js';
export { OllamaError, type OllamaErrorKind } from './ollamaError.js';

/** MB = MiB everywhere; the API speaks in bytes. */
export interface InstalledModel {
  name: string;
  /** On disk. */
  sizeMb: number;
  /** Present once the server has told (0.6.4 and newer): the model embeds only, and cannot generate. */
  embeddingOnly?: boolean;
}

/**
 * A line of `/api/ps`. No proof of anything: a model is listed from the moment its load begins, and
 * models made from the same weights share one runner, which bears the name that loaded it.
 */
export interface ResidentModel {
  name: string;
  /** The server's estimate of the whole, system memory included. */
  sizeMb: number;
  /** The server's estimate of the part on GPUs; less than `sizeMb`: partly in system memory. */
  vramMb: number;
  /** Epoch ms. Moves with each request; while the model loads, now plus its keep-alive. */
  expiresAt: number;
  /** Tokens; null when the server is too old to tell. */
  contextLength: number | null;
}

export interface GenerateOptions {
  signal: AbortSignal;
  /** Base64. */
  images?: string[];
  /** As in a Modelfile: `num_predict`, `temperature`, … Another `num_ctx` makes Ollama load the model anew. */
  options?: Record<string, unknown>;
  /** For example `24h`; without it the model keeps the one it has. */
  keepAlive?: string;
}

export interface GenerateChunk {
  text: string;
  done: boolean;
  /** Tokens generated; on the last chunk. */
  tokens?: number;
}

/** Each method throws OllamaError only, and ends with its signal: the connection closes, and Ollama stops working on it. */
export interface Ollama {
  readonly endpoint: string;
  version(signal: AbortSignal): Promise<string>;
  installed(signal: AbortSignal): Promise<InstalledModel[]>;
  resident(signal: AbortSignal): Promise<ResidentModel[]>;
  /**
   * Loads by an empty request; resolves when the server says loaded. That is no proof. A cancelled load is listed for
   * some 250 ms more, until the server notices; whoever asks for the model meanwhile, even for an answer, gets one, and
   * then the model is dropped (0.6.5). So after a cancelled load, wait until `resident` no longer lists the model.
   */
  load(model: string, options: { signal: AbortSignal; keepAlive: string }): Promise<void>;
  /**
   * Asks the server to drop the model (keep_alive 0). The API's word is no proof; the caller proves: the server
   * answers at once, lets requests in flight end first, and forgets the wish when one with a keep-alive comes meanwhile.
   */
  unload(model: string, options: { signal: AbortSignal }): Promise<void>;
  /**
   * A real answer from the model: one token, or one embedding for an embedding-only model.
   * Throws when the model does not answer. Loads the model if it is gone, with this keep-alive.
   */
  probe(model: string, options: { signal: AbortSignal; keepAlive: string }): Promise<void>;
  /** Streams an answer. Leaving the loop early closes the connection too. */
  generate(model: string, prompt: string, options: GenerateOptions): AsyncIterable<GenerateChunk>;
}

/** @throws OllamaError of kind `protocol` when the endpoint is no URL. */
export function createOllama(endpoint: string): Ollama {
  const base = endpoint.replace(/\/+$/, '');
  /** By digest, whose content never changes; so each model is asked about once. */
  const embeddingOnly = new Map<string, boolean>();

  const context = (action: string, model: string | null = null): RequestContext => ({ endpoint: base, action, model });

  if (!URL.canParse(base) || !/^https?:$/.test(new URL(base).protocol)) {
    throw protocolError(
      'the endpoint is not an http(s) URL, for example http://localhost:11434',
      context('be reached'),
    );
  }

  async function learnCapabilities(model: string, digest: string, signal: AbortSignal): Promise<void> {
    try {
      const request = context(`describe ${model}`, model);
      const { capabilities } = await ask(request, signal, showAnswer, (client) => client.show({ model }));
      if (capabilities !== undefined) embeddingOnly.set(digest, !capabilities.includes('completion'));
    } catch (error) {
      // Removed meanwhile, or its file is broken: that stays unknown, and must not hide the other models.
      if (error instanceof OllamaError && (error.kind === 'http' || error.kind === 'model-missing')) return;
      throw error;
    }
  }

  /** For a model that cannot generate, an embedding request does what an empty generate does for the others. */
  async function embed(request: RequestContext, input: string, keepAlive: string, signal: AbortSignal) {
    return await ask(request, signal, embedAnswer, (client) =>
      client.embed({ model: request.model ?? '', input, keep_alive: keepAlive }),
    );
  }

  return {
    endpoint: base,

    async version(signal) {
      return (await ask(context('tell its version'), signal, versionAnswer, (client) => client.version())).version;
    },

    async installed(signal) {
      const request = context('list its installed models');
      const models = (await ask(request, signal, tagsAnswer, (client) => client.list())).models ?? [];
      for (const { name, digest } of models) {
        if (!embeddingOnly.has(digest)) await learnCapabilities(name, digest, signal);
      }
      return models.map(({ name, size, digest }) => {
        const known = embeddingOnly.get(digest);
        return { name, sizeMb: toMb(size), ...(known === undefined ? {} : { embeddingOnly: known }) };
      });
    },

    async resident(signal) {
      const request = context('list its running models');
      const models = (await ask(request, signal, psAnswer, (client) => client.ps())).models ?? [];
      return models.map((model) => ({
        name: model.name,
        sizeMb: toMb(model.size),
        vramMb: toMb(model.size_vram),
        expiresAt: model.expires_at,
        contextLength: model.context_length ?? null,
      }));
    },

    async load(model, { signal, keepAlive }) {
      const request = context(`load ${model}`, model);
      try {
        await ask(request, signal, generateAnswer, (client) =>
          client.generate({ model, prompt: '', stream: false, keep_alive: keepAlive }),
        );
      } catch (error) {
        if (!saysEmbeddingOnly(error)) throw error;
        await embed(request, '', keepAlive, signal);
      }
    },

    async unload(model, { signal }) {
      // Generate, for embedding-only models too: the server looks at the keep-alive before the capabilities.
      await ask(context(`unload ${model}`, model), signal, generateAnswer, (client) =>
        client.generate({ model, prompt: '', stream: false, keep_alive: 0 }),
      );
    },

    async probe(model, { signal, keepAlive }) {
      const request = context(`get an answer from ${model}`, model);
      try {
        const answer = await ask(request, signal, generateAnswer, (client) =>
          // num_predict is not among the options that make the server load the model anew.
          client.generate({ model, prompt: 'Hi', stream: false, keep_alive: keepAlive, options: { num_predict: 1 } }),
        );
        if ((answer.eval_count ?? 0) + (answer.prompt_eval_count ?? 0) === 0) {
          throw protocolError('the answer holds no token', request, 200);
        }
      } catch (error) {
        if (!saysEmbeddingOnly(error)) throw error;
        const vector = (await embed(request, 'Hi', keepAlive, signal)).embeddings[0] ?? [];
        if (vector.length === 0) throw protocolError('the embedding is empty', request, 200);
      }
    },

    generate(model, prompt, { signal, images, options, keepAlive }) {
      const request = context(`generate with ${model}`, model);
      return withClient(request, signal, async function* (client) {
        const stream = await client.generate({
          model,
          prompt,
          stream: true,
          // As bytes: the package takes a string for a path, and would read the file that it names.
          ...(images === undefined ? {} : { images: images.map((image) => Buffer.from(image, 'base64')) }),
          ...(options === undefined ? {} : { options }),
          ...(keepAlive === undefined ? {} : { keep_alive: keepAlive }),
        });
        for await (const part of namedErrors(stream, request)) {
          const chunk = read(generateChunk, part);
          const tokens = chunk.done ? chunk.eval_count : undefined;
          yield { text: chunk.response, done: chunk.done, ...(tokens === undefined ? {} : { tokens }) };
        }
      });
    },
  };
}

/** One request with one answer. */
async function ask<T>(
  request: RequestContext,
  signal: AbortSignal,
  answer: ZodType<T>,
  send: (client: Client) => Promise<unknown>,
): Promise<T> {
  const answers = withClient(request, signal, async function* (client) {
    yield read(answer, await send(client));
  });
  for await (const value of answers) return value;
  throw transportError(new Error('it gave no answer'), request);
}

/** The package throws an error object inside a stream as a bare Error with Ollama's text, and its own as another. */
async function* namedErrors<T>(stream: AsyncIterable<T>, request: RequestContext): AsyncIterable<T> {
  try {
    yield* stream;
  } catch (error) {
    if (!(error instanceof Error) || error.constructor !== Error) throw error;
    throw error.message.startsWith('Did not receive done')
      ? cutOffError(request, error)
      : reportedError(200, error.message, request);
  }
}

function saysEmbeddingOnly(error: unknown): boolean {
  return error instanceof OllamaError && error.status === 400 && error.message.includes('does not support generate');
}

/** Rounded up: what a model takes is never made smaller. */
function toMb(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}
