import { OllamaError } from './errors.js';
import { keepAliveMs } from './goDuration.js';
import type { RunnerOptions } from './ollamaRunner.js';
import { DEFAULT_NUM_CTX } from './placement.js';

/** The body of a model request, as far as the simulated server looks at it. */
export interface ModelRequest {
  readonly model: string;
  readonly prompt: string;
  readonly messages: readonly unknown[];
  readonly input: readonly string[];
  readonly images: number;
  readonly stream: boolean;
  readonly keepAliveMs: number | null;
  readonly options: Record<string, unknown>;
}

/** @throws {OllamaError} 400 as the real server answers for a body that it cannot read. */
export function parseModelRequest(text: string): ModelRequest {
  const body = parseBody(text);
  const messages = Array.isArray(body.messages) ? body.messages : [];
  return {
    model: typeof body.model === 'string' ? body.model : typeof body.name === 'string' ? body.name : '',
    prompt: typeof body.prompt === 'string' ? body.prompt : '',
    messages,
    input: parseInput(body.input),
    images: Array.isArray(body.images) ? body.images.length : 0,
    stream: body.stream !== false,
    keepAliveMs: keepAliveMs(body.keep_alive),
    options: isRecord(body.options) ? body.options : {},
  };
}

/** @throws {OllamaError} 500 (so does the real server) when an option is no whole number. */
export function runnerOptions(options: Record<string, unknown>): RunnerOptions {
  const integer = (key: string, otherwise: number): number => {
    const value = options[key] ?? otherwise;
    if (typeof value !== 'number') throw new OllamaError(500, `option "${key}" must be of type integer`);
    return Math.trunc(value);
  };
  return {
    numCtx: Math.max(4, integer('num_ctx', DEFAULT_NUM_CTX)),
    numGpu: integer('num_gpu', -1),
    numBatch: integer('num_batch', 512),
    numThread: integer('num_thread', 0),
  };
}

function parseBody(text: string): Record<string, unknown> {
  if (text.trim() === '') throw new OllamaError(400, 'missing request body');
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw new OllamaError(400, `invalid JSON: ${(error as Error).message}`);
  }
  if (!isRecord(body)) throw new OllamaError(400, 'json: cannot unmarshal the body into an object');
  return body;
}

function parseInput(input: unknown): string[] {
  if (input === undefined || input === null || input === '') return [];
  if (typeof input === 'string') return [input];
  if (!Array.isArray(input) || input.some((part) => typeof part !== 'string')) {
    throw new OllamaError(400, 'invalid input type');
  }
  return input as string[];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
