#!/usr/bin/env node
/**
 * A simulated embedder process: it speaks the embedder protocol over a Unix socket, and on cuda holds memory of the
 * simulated card for as long as it lives (its open connection to the simulator is the holding).
 */
import { rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { parseArgs } from 'node:util';
import { distort } from './embedderFaults.js';
import type { EmbedFaults } from './embedders.js';
import { type LineStream, openLines } from './jsonLines.js';
import { unitVector } from './vectors.js';

/** CLIP ViT-B/32. */
const DIMENSION = 512;
/** After a failed start it reports for this long, in real ms, then exits. */
const FAILED_FOR_MS = 5000;
/** It tries to get back to a simulator that was started again this often, in real ms. */
const RECONNECT_MS = 250;
/** Without a simulator for so long, in real ms, its host is gone, and so is this process. */
const HOST_GONE_MS = 30_000;
/** Requests in flight have this long to end after a shutdown, in real ms. */
const SHUTDOWN_MS = 1500;

const { values: options } = parseArgs({
  options: {
    simulator: { type: 'string', default: '' },
    device: { type: 'string', default: 'cpu' },
    socket: { type: 'string', default: '' },
    model: { type: 'string', default: 'ViT-B-32' },
    gpu: { type: 'string' },
    'gpu-provider': { type: 'string', default: 'cuda' },
  },
});
const device = options.device === 'cuda' ? 'cuda' : 'cpu';

let state: 'starting' | 'ready' | 'failed' = 'starting';
let error: string | null = null;
let ending = false;
let hold: LineStream | undefined;
let connectedAt = Date.now();

/** Connects to the simulator. On cuda this is the allocation, and a lost connection is made anew. */
function connect(): void {
  let answered = false;
  const hello = { pid: process.pid, device, gpu: options.gpu ?? null, name: process.execPath };
  hold = openLines(new URL('/embedder/hold', options.simulator).href, 'POST', hello, {
    line: (value) => {
      answered = true;
      const { startMs, failure, error: refusal } = value as { startMs?: number; failure?: string; error?: string };
      const problem = failure ?? refusal ?? null;
      if (state !== 'starting') return;
      if (problem !== null) fail(problem);
      else setTimeout(ready, startMs ?? 0);
    },
    end: () => {
      if (answered) connectedAt = Date.now();
      if (ending || state === 'failed') return;
      if (state === 'starting' && device === 'cuda' && !answered) fail('CUDA error: no driver answers');
      else if (state === 'starting' && !answered) ready();
      else if (Date.now() - connectedAt > HOST_GONE_MS) process.kill(process.pid, 'SIGTERM');
      else setTimeout(connect, RECONNECT_MS);
    },
  });
}

function ready(): void {
  if (state === 'starting') state = 'ready';
}

function fail(reason: string): void {
  state = 'failed';
  error = reason;
  process.stderr.write(`embedder on ${device} failed: ${reason}\n`);
  setTimeout(() => process.exit(1), FAILED_FOR_MS);
}

const server = createServer((request, response) => {
  serve(request, response).catch((problem: unknown) => {
    send(response, 500, { error: { code: 'internal', message: (problem as Error).message } });
  });
});

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const route = `${request.method} ${request.url}`;
  if (route === 'GET /health') {
    const health = {
      state,
      device,
      provider: device === 'cuda' ? options['gpu-provider'] : 'cpu',
      model: options.model,
    };
    const dimension = state === 'ready' ? DIMENSION : null;
    send(response, state === 'ready' ? 200 : 503, { ...health, dimension, pid: process.pid, error });
  } else if (route === 'POST /shutdown') {
    send(response, 202, {});
    shutdown();
  } else if (route === 'POST /embed/text') {
    await embed(request, response, 'text', 'texts');
  } else if (route === 'POST /embed/image') {
    await embed(request, response, 'image', 'images');
  } else {
    send(response, 404, { error: { code: 'bad-input', message: `no such route: ${route}` } });
  }
}

async function embed(
  request: IncomingMessage,
  response: ServerResponse,
  input: 'text' | 'image',
  key: string,
): Promise<void> {
  if (state !== 'ready' || ending) {
    send(response, 503, {
      error: { code: 'internal', message: error ?? `the embedder is ${ending ? 'ending' : state}` },
    });
    return;
  }
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const inputs = readInputs(Buffer.concat(chunks).toString('utf8'), key);
  const images = input === 'image' ? inputs?.map((part) => Buffer.from(part, 'base64')) : undefined;
  if (inputs === null || images?.some((image) => !isImage(image)) === true) {
    send(response, 400, { error: { code: 'bad-input', message: `'${key}' must be a list of ${input}s` } });
    return;
  }
  const faults = await askFaults(input, inputs.length);
  if (faults.slowMs > 0) await new Promise((resolve) => setTimeout(resolve, faults.slowMs));
  if (faults.fails) {
    send(response, 500, { error: { code: 'out-of-memory', message: 'CUDA out of memory (simulated)' } });
    return;
  }
  const embeddings = (images ?? inputs).map((part) => distort(unitVector(part, DIMENSION), faults.wrong, device));
  sendBody(response, 200, embeddingsBody(embeddings));
}

function readInputs(body: string, key: string): string[] | null {
  try {
    const inputs = (JSON.parse(body) as Record<string, unknown>)[key];
    return Array.isArray(inputs) && inputs.every((part) => typeof part === 'string') ? inputs : null;
  } catch (problem) {
    if (problem instanceof SyntaxError) return null;
    throw problem;
  }
}

/** By the first bytes: a PNG or a JPEG file. */
function isImage(bytes: Buffer): boolean {
  const begin = bytes.subarray(0, 3).toString('hex');
  return begin === '89504e' || begin === 'ffd8ff';
}

/** The request goes on the simulator's record, and the faults of the moment come back. */
function askFaults(input: 'text' | 'image', count: number): Promise<EmbedFaults> {
  return fetch(new URL('/embedder/request', options.simulator), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ pid: process.pid, device, input, count }),
  }).then(
    (answer) => answer.json() as Promise<EmbedFaults>,
    (problem: unknown) => {
      // A simulator that is away has no faults to play; embedding needs only this process.
      process.stderr.write(`the simulator does not answer: ${(problem as Error).message}\n`);
      return { slowMs: 0, fails: false, wrong: null };
    },
  );
}

function send(response: ServerResponse, status: number, content: object): void {
  sendBody(response, status, JSON.stringify(content));
}

/** JSON has no infinity, but a number too large for a double reads as one: so a fault reaches the reader. */
function embeddingsBody(embeddings: readonly number[][]): string {
  const rows = embeddings.map((row) => `[${row.map((value) => (Number.isFinite(value) ? value : '1e999')).join(',')}]`);
  return `{"embeddings":[${rows.join(',')}],"dimension":${embeddings[0]?.length ?? DIMENSION}}`;
}

function sendBody(response: ServerResponse, status: number, body: string): void {
  if (response.headersSent) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(body);
}

function shutdown(): void {
  if (ending) return;
  ending = true;
  const leave = (): void => {
    hold?.close();
    rmSync(options.socket, { force: true });
    process.exit(0);
  };
  server.close(leave);
  server.closeIdleConnections();
  setTimeout(leave, SHUTDOWN_MS);
}

process.on('SIGTERM', shutdown);
process.on('SIGINT', shutdown);
rmSync(options.socket, { force: true });
server.listen(options.socket, connect);
