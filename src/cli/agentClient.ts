/** Calls the agent's endpoint. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Agent, fetch as undiciFetch } from 'undici';
import { z } from 'zod';
import { readToken, TokenError } from '../agent/token.js';
import { foldersOf } from '../config/folders.js';
import type { Config } from '../config/schema.js';
import { SIMULATED_HEADER } from '../contracts/status.js';
import type { CliContext } from './context.js';
import { EXIT } from './exitCodes.js';
import { homeOf } from './globalOptions.js';
import { saySimulated } from './simulated.js';
import { UserError } from './userError.js';

const TIMEOUT_MS = 70_000;
const ALIVE_MS = 2_000;

/** A streamed answer that was cut off. */
export class ConnectionLost extends UserError {}

export interface AgentClient {
  get<T>(path: string): Promise<T>;
  post<T>(path: string, body: unknown): Promise<T>;
  /** The lines of a streamed answer. */
  lines(path: string, options?: { body?: unknown; signal?: AbortSignal }): AsyncIterable<string>;
}

/** @throws UserError when there is no usable token file */
export function agentClient(config: Config, context: CliContext): AgentClient {
  const folders = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
  const base = urlOf(config, folders.data);
  const path = config.agent.token_file ?? join(folders.data, 'token');
  const call = async (route: string, init: RequestInit, ask = fetch): Promise<Response> => {
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${tokenIn(path)}` };
    const response = await reach(`${base}${route}`, { ...init, headers }, ask);
    if (response.headers.has(SIMULATED_HEADER)) saySimulated(context);
    if (!response.ok) throw await refusal(response, path);
    return response;
  };
  const json = async <T>(route: string, init: RequestInit): Promise<T> => {
    const response = await call(route, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    return (await response.json().catch((error: unknown) => {
      throw error instanceof SyntaxError ? stranger(response, error) : cutOff(error);
    })) as T;
  };
  const post = (body: unknown): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return {
    get: (route) => json(route, {}),
    post: (route, body) => json(route, post(body)),
    async *lines(route, { body, signal } = {}) {
      const init = { ...(body === undefined ? {} : post(body)), ...(signal ? { signal } : {}) };
      const response = await call(route, init, patientFetch);
      if (response.headers.get('content-type')?.startsWith('text/html')) throw stranger(response, null);
      if (response.body) yield* linesOf(response.body, signal);
    },
  };
}

/** Makes a simulated host known (law 7) where a command asks the agent for nothing else. */
export async function askWhetherSimulated(config: Config, context: CliContext): Promise<void> {
  const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
  try {
    const url = `${urlOf(config, data)}/healthz`;
    const response = await fetch(url, { method: 'HEAD', signal: AbortSignal.timeout(ALIVE_MS) });
    if (response.headers.has(SIMULATED_HEADER)) saySimulated(context);
  } catch {
    // No agent, no figures: who needs it will say that it is away.
  }
}

/** Where the agent says that it listens; else where the configuration puts it. */
function urlOf(config: Config, dataFolder: string): string {
  try {
    const file = join(dataFolder, 'agents', config.host, 'endpoint.json');
    return (JSON.parse(readFileSync(file, 'utf8')) as { url: string }).url;
  } catch {
    // It has not started yet, or not from this data folder.
    return `http://${config.agent.listen}`;
  }
}

function tokenIn(path: string): string {
  try {
    return readToken(path);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    throw new UserError(error.message, { exitCode: EXIT.unavailable, cause: error });
  }
}

/** A stream may be silent for as long as there is nothing to tell: a service that writes nothing, a load that takes long. */
const patient = new Agent({ bodyTimeout: 0 });
const patientFetch = ((url: string, init: Parameters<typeof undiciFetch>[1]) =>
  undiciFetch(url, { ...init, dispatcher: patient })) as unknown as typeof fetch;

async function reach(url: string, init: RequestInit, ask: typeof fetch): Promise<Response> {
  try {
    return await ask(url, init);
  } catch (error) {
    const { origin } = new URL(url);
    if (isTimeout(error)) {
      throw new UserError(`The agent at ${origin} did not answer within ${TIMEOUT_MS / 1000} s.`, {
        exitCode: EXIT.unavailable,
        remedy: 'See its log, supervisor.log in the data folder.',
        cause: error,
      });
    }
    init.signal?.throwIfAborted();
    throw new UserError(`No agent answers at ${origin}.`, {
      exitCode: EXIT.unavailable,
      remedy: 'Start it with `vramflow up`; `vramflow doctor` shows what is missing.',
      cause: error,
    });
  }
}

const isTimeout = (error: unknown): boolean => error instanceof Error && error.name === 'TimeoutError';

async function refusal(response: Response, tokenPath: string): Promise<UserError> {
  const answer = refusalSchema.safeParse(await response.json().catch(() => null));
  if (!answer.success) return stranger(response, answer.error);
  const { error } = answer.data;
  if (response.status === 401) {
    return new UserError(`The agent does not take the token of ${tokenPath}.`, {
      exitCode: EXIT.unavailable,
      code: error.code,
      remedy: 'Use the token file of the data folder that the agent runs with (data_dir, agent.token_file).',
    });
  }
  const exitCode = response.status < 500 && response.status !== 409 ? EXIT.usage : EXIT.failed;
  return new UserError(error.message, {
    exitCode,
    code: error.code,
    ...(error.remedy ? { remedy: error.remedy } : {}),
  });
}

const refusalSchema = z.object({
  error: z.object({ code: z.string(), message: z.string(), remedy: z.string().nullable() }),
});

const cutOff = (cause: unknown): ConnectionLost =>
  new ConnectionLost('The agent ended the connection before its answer was complete.', {
    exitCode: EXIT.unavailable,
    remedy: '`vramflow doctor` shows whether it runs.',
    cause,
  });

/** What answers there does not speak as an agent does. */
function stranger(response: Response, cause: unknown): UserError {
  const { origin } = new URL(response.url);
  return new UserError(`What answers at ${origin} is no agent of vramflow (status ${response.status}).`, {
    exitCode: EXIT.unavailable,
    remedy: 'Another program may listen there: give the agent a port of its own (agent.listen), and start it.',
    cause,
  });
}

async function* linesOf(body: ReadableStream<Uint8Array>, signal?: AbortSignal): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = '';
  try {
    for await (const chunk of body) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw cutOff(error);
  }
  if (rest !== '') yield rest;
}
