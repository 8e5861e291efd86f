/** The embedder's HTTP endpoint on its socket. It answers /health from the first moment, while the model loads. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

import type { Clip } from './clip.js';
import { ChildError, type ChildErrorCode, toChildError } from './failure.js';

export interface Health {
  state: 'starting' | 'ready' | 'failed';
  device: 'cpu' | 'cuda';
  /** The execution provider that really computes. */
  provider: string;
  model: string;
  dimension: number | null;
  pid: number;
  error: string | null;
}

export interface EmbedderServer {
  listen(): Promise<void>;
  setReady(clip: Clip, dimension: number): void;
  setFailed(error: string): void;
  /** Takes no more requests and resolves when those in flight have ended. */
  drain(): Promise<void>;
}

/** A request's body at most: about 40 photographs in base64. */
const MAX_BODY_BYTES = 256 * 1024 * 1024;

const STATUS: Record<ChildErrorCode, number> = { 'bad-input': 400, 'out-of-memory': 507, internal: 500 };

export function createEmbedderServer(options: {
  socket: string;
  health: Pick<Health, 'device' | 'provider' | 'model'>;
  /** A POST /shutdown arrived. */
  onShutdown: () => void;
}): EmbedderServer {
  const health: Health = { ...options.health, state: 'starting', dimension: null, pid: process.pid, error: null };
  let clip: Clip | null = null;
  let draining = false;
  /** Chunks run one after the other: two at a time would double the memory that the device must hold. */
  let lane: Promise<unknown> = Promise.resolve();

  const server = createServer((request, response) => {
    void respond(request, response);
  });

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      await route(request, response);
    } catch (error) {
      // The caller has gone: nobody reads an answer.
      if (response.destroyed) return;
      const { code, message } = toChildError(error);
      send(response, STATUS[code], { error: { code, message } });
    }
  }

  async function route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    switch (`${request.method} ${request.url}`) {
      case 'GET /health':
        return send(response, health.state === 'ready' ? 200 : 503, health);
      case 'POST /embed/text':
        return embed(request, response, 'texts', (ready, texts, signal) => ready.text(texts, signal));
      case 'POST /embed/image':
        return embed(request, response, 'images', (ready, images, signal) => ready.images(images, signal));
      case 'POST /shutdown':
        send(response, 202, {});
        return options.onShutdown();
      default:
        return send(response, 404, { error: { code: 'bad-input', message: `No such route: ${request.url}` } });
    }
  }

  async function embed(
    request: IncomingMessage,
    response: ServerResponse,
    field: 'texts' | 'images',
    run: (ready: Clip, inputs: string[], signal: AbortSignal) => Promise<number[][]>,
  ): Promise<void> {
    // Decided on arrival: a request that came before the end was asked for is still answered.
    const ready = clip;
    if (ready === null || draining) {
      const message = draining ? 'The embedder is ending.' : `The embedder is not ready: ${health.state}.`;
      return send(response, 503, { error: { code: 'internal', message } });
    }
    const inputs = stringsIn(await readJson(request), field);
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const result = lane.then(() => run(ready, inputs, gone.signal));
    lane = result.catch(() => undefined);
    send(response, 200, { embeddings: await result, dimension: health.dimension });
  }

  return {
    listen: () =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(options.socket, resolve);
      }),
    setReady(loaded, dimension) {
      clip = loaded;
      Object.assign(health, { state: 'ready', dimension });
    },
    setFailed(error) {
      Object.assign(health, { state: 'failed', error });
    },
    drain() {
      draining = true;
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
      });
    },
  };
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
  response.end(JSON.stringify(body));
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES)
      throw new ChildError('bad-input', `The request is larger than ${MAX_BODY_BYTES} bytes.`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch (error) {
    throw new ChildError('bad-input', 'The request is not JSON.', { cause: error });
  }
}

function stringsIn(body: unknown, field: string): string[] {
  const list = typeof body === 'object' && body !== null ? (body as Record<string, unknown>)[field] : undefined;
  if (!Array.isArray(list) || !list.every((item) => typeof item === 'string')) {
    throw new ChildError('bad-input', `The request needs "${field}", a list of strings.`);
  }
  return list;
}
