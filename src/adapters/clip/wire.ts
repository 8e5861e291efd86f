/** The embedder's protocol from the caller's side: JSON over HTTP on a Unix socket. */
import { request } from 'node:http';

import { z } from 'zod';

import { abortError, EmbedderError } from './failure.js';

const health = z.object({
  state: z.enum(['starting', 'ready', 'failed']),
  device: z.enum(['cpu', 'cuda']),
  provider: z.string(),
  dimension: z.int().positive().nullable(),
  error: z.string().nullable(),
});
export type WireHealth = z.infer<typeof health>;

const embeddings = z.object({ embeddings: z.array(z.array(z.number())) });
const failure = z.object({ error: z.object({ code: z.string(), message: z.string() }) });

/** @throws EmbedderError `gone` when nobody listens, `protocol` when the answer is not understood. */
export async function readHealth(socket: string, signal: AbortSignal): Promise<WireHealth> {
  const { body } = await exchange(socket, 'GET', '/health', null, signal);
  return parse(health, body, '/health');
}

/** @throws EmbedderError `bad-input`, `out-of-memory`, `gone`, `timeout` or `protocol`. */
export async function embedOver(
  socket: string,
  what: { path: '/embed/text' | '/embed/image'; field: 'texts' | 'images' },
  inputs: string[],
  signal: AbortSignal,
): Promise<number[][]> {
  const { status, body } = await exchange(socket, 'POST', what.path, { [what.field]: inputs }, signal);
  if (status !== 200) throw refusal(status, body);
  const answer = parse(embeddings, body, what.path).embeddings;
  if (answer.length === inputs.length) return answer;
  throw new EmbedderError('protocol', `The embedder gave ${answer.length} embeddings for ${inputs.length} inputs.`);
}

/** Asks the process to end; it does so after the requests in flight. */
export async function askToEnd(socket: string, signal: AbortSignal): Promise<void> {
  await exchange(socket, 'POST', '/shutdown', {}, signal);
}

function refusal(status: number, body: string): EmbedderError {
  const { code, message } = parse(failure, body, `an answer with status ${status}`).error;
  if (code === 'bad-input' || code === 'out-of-memory') return new EmbedderError(code, message);
  return new EmbedderError(status === 503 ? 'gone' : 'protocol', message);
}

function parse<T>(schema: z.ZodType<T>, body: string, from: string): T {
  try {
    return schema.parse(JSON.parse(body));
  } catch (error) {
    throw new EmbedderError('protocol', `The embedder's answer to ${from} is not understood: ${body.slice(0, 200)}`, {
      cause: error,
    });
  }
}

function exchange(
  socket: string,
  method: string,
  path: string,
  content: object | null,
  signal: AbortSignal,
): Promise<{ status: number; body: string }> {
  const text = content === null ? '' : JSON.stringify(content);
  const headers =
    content === null ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  return new Promise((resolve, reject) => {
    const failed = (cause: Error) =>
      reject(
        signal.aborted
          ? abortError(signal, `The embedder's ${path}`)
          : new EmbedderError('gone', `The embedder does not answer on ${socket}: ${cause.message}`, { cause }),
      );
    // A connection of its own for each exchange: nothing stays open, nothing has to be closed.
    const sent = request({ socketPath: socket, method, path, headers, signal, agent: false }, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', failed);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('utf8') }),
      );
    });
    sent.on('error', failed);
    sent.end(text);
  });
}
