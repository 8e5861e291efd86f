import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sleep } from './clock.js';
import { OllamaError } from './errors.js';
import { type Answer, chat, embed, findModel, generate, type OllamaContext, pull } from './ollamaHandlers.js';
import { type ModelRequest, parseModelRequest } from './ollamaRequest.js';
import { psEntry, showAnswer, tagsEntry } from './ollamaShapes.js';

/** The version that it plays. */
export const OLLAMA_VERSION = '0.6.5';

type Handler = (context: OllamaContext, request: ModelRequest, signal: AbortSignal) => Promise<Answer>;

const MODEL_ROUTES: Readonly<Record<string, Handler>> = {
  '/api/generate': generate,
  '/api/chat': chat,
  '/api/embed': embed,
  '/api/pull': pull,
  '/api/show': async (context, request) => {
    const model = findModel(context, request.model);
    if (model === undefined) throw new OllamaError(404, `model '${request.model}' not found`);
    return { json: showAnswer(model) };
  },
};

const READ_ROUTES: Readonly<Record<string, (context: OllamaContext) => object | string>> = {
  '/': () => 'Ollama is running',
  '/api/version': () => ({ version: OLLAMA_VERSION }),
  '/api/tags': (context) => ({ models: context.models.map(tagsEntry) }),
  '/api/ps': (context) => ({
    models: [...context.scheduler.loaded.values()]
      .sort((a, b) => (b.expiresAtMs ?? 0) - (a.expiresAtMs ?? 0))
      .map((runner) => psEntry(runner, context.clock)),
  }),
};

/** Ollama's HTTP server. It can go away and come back on the same port. */
export class OllamaServer {
  readonly #context: () => OllamaContext;
  #server: Server | undefined;
  #port: number;
  #lastRequest = 0;

  /** `context` is asked at each request: the scheduler is another one after a restart of the server. */
  constructor(context: () => OllamaContext, port: number) {
    this.#context = context;
    this.#port = port;
  }

  get port(): number {
    return this.#port;
  }

  get listening(): boolean {
    return this.#server !== undefined;
  }

  /** @throws the system's error when the port is taken. */
  async listen(): Promise<void> {
    if (this.#server !== undefined) return;
    const server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
  }

  /** Connections are cut and refused from now on. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const context = this.#context();
    const path = new URL(request.url ?? '/', 'http://ollama').pathname;
    const left = new AbortController();
    response.on('close', () => {
      if (!response.writableFinished) left.abort(new OllamaError(499, 'request canceled'));
    });
    const body = await readBody(request);
    const record =
      MODEL_ROUTES[path] !== undefined && path !== '/api/show' ? this.#recordStart(context, path, body) : null;
    let status = 499;
    try {
      status = await this.#answer(context, request.method ?? 'GET', path, body, response, left.signal);
    } catch (error) {
      status = error instanceof OllamaError ? error.status : 500;
      if (!left.signal.aborted) sendJson(response, status, { error: (error as Error).message });
    } finally {
      if (record !== null) {
        context.recorder.add({ kind: 'request-end', ...record, status, aborted: left.signal.aborted });
      }
    }
  }

  async #answer(
    context: OllamaContext,
    method: string,
    path: string,
    body: string,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<number> {
    const { faults, clock } = context;
    const slow = faults.take('ollama-slow');
    if (slow !== null) await sleep(clock, Number(slow.ms), signal);
    const failing = path === '/' ? null : faults.take('ollama-http-error');
    if (failing !== null)
      throw new OllamaError(Number(failing.status ?? 500), 'unexpected server status: llm server error');
    const read = method === 'GET' || method === 'HEAD' ? READ_ROUTES[path] : undefined;
    if (read !== undefined) {
      const content = read(context);
      if (typeof content === 'string') sendText(response, 200, content, 'text/plain; charset=utf-8');
      else sendJson(response, 200, content);
      return 200;
    }
    const handler = method === 'POST' ? MODEL_ROUTES[path] : undefined;
    if (handler === undefined) {
      sendText(response, 404, '404 page not found', 'text/plain');
      return 404;
    }
    const answer = await handler(context, parseModelRequest(body), signal);
    if ('json' in answer) sendJson(response, 200, answer.json);
    else await sendStream(response, answer.stream, signal);
    return 200;
  }

  #recordStart(
    context: OllamaContext,
    path: string,
    body: string,
  ): { request: number; path: string; model: string | null } {
    const [, name] = /"(?:model|name)"\s*:\s*"([^"]*)"/.exec(body) ?? [];
    const record = { request: ++this.#lastRequest, path, model: name ?? null };
    context.recorder.add({ kind: 'request-start', ...record });
    return record;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function sendJson(response: ServerResponse, status: number, content: object): void {
  sendText(response, status, JSON.stringify(content), 'application/json; charset=utf-8');
}

function sendText(response: ServerResponse, status: number, text: string, type: string): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

/** One object a line. An error after the begin is a line too: the status is out already. */
async function sendStream(
  response: ServerResponse,
  objects: AsyncIterable<object>,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  try {
    for await (const object of objects) response.write(`${JSON.stringify(object)}\n`);
  } catch (error) {
    if (signal.aborted) throw error;
    response.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
  }
  response.end();
}
