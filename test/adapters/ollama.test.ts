import { once } from 'node:events';
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { createOllama, type Ollama, OllamaError } from '../../src/adapters/ollama/ollama.js';

/** Servers that answer as a broken, absent or odd Ollama does. What a sound one does is in test/contract. */
const servers: { close(): unknown }[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  vi.restoreAllMocks();
});

async function answering(listener: RequestListener): Promise<Ollama> {
  const server: Server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push({ close: () => server.close().closeAllConnections() });
  return createOllama(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(body));
}

const soon = () => AbortSignal.timeout(5000);
const options = () => ({ signal: soon(), keepAlive: '24h' });

async function failure(promise: Promise<unknown>): Promise<OllamaError> {
  const error: unknown = await promise.then(
    () => new Error('It did not fail.'),
    (error: unknown) => error,
  );
  if (!(error instanceof OllamaError)) throw error;
  expect(error.remedy).toMatch(/^[A-Z].*\.$/);
  expect(error.message.endsWith(error.remedy)).toBe(true);
  return error;
}

async function text(stream: AsyncIterable<{ text: string }>): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += chunk.text;
  return all;
}

describe('an Ollama that is away', () => {
  test('refuses the connection', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, 'close');
    const error = await failure(createOllama(`http://127.0.0.1:${port}`).version(soon()));
    expect(error).toMatchObject({ kind: 'unavailable', status: null });
    expect(error.message).toContain('ollama serve');
  });

  test('has a name that does not resolve', async () => {
    const error = await failure(createOllama('http://no-such-host.invalid:11434').resident(soon()));
    expect(error).toMatchObject({ kind: 'unavailable', status: null });
  });

  test('resets the connection', async () => {
    const ollama = await answering((request) => request.socket.resetAndDestroy());
    expect(await failure(ollama.load('llava', options()))).toMatchObject({ kind: 'unavailable' });
  });

  test('dies in the middle of a stream', async () => {
    const ollama = await answering((_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.write('{"response":"a","done":false}\n', () => response.destroy());
    });
    const error = await failure(text(ollama.generate('llava', 'Hi', { signal: soon() })));
    expect(error).toMatchObject({ kind: 'unavailable', status: null });
  });

  test('is a proxy with nobody behind it', async () => {
    const ollama = await answering((_, response) => {
      response.writeHead(502, { 'content-type': 'text/html' }).end('<html>Bad Gateway</html>');
    });
    expect(await failure(ollama.version(soon()))).toMatchObject({ kind: 'unavailable', status: 502 });
  });
});

describe('a server that is not Ollama', () => {
  test('has no URL', () => {
    expect(() => createOllama('not a url')).toThrow(OllamaError);
    expect(() => createOllama('ftp://localhost')).toThrow(/http:\/\/localhost:11434/);
  });

  test.each([200, 404, 500])('answers %i with a page, and nothing is printed', async (status) => {
    const printed = [vi.spyOn(console, 'log'), vi.spyOn(console, 'warn'), vi.spyOn(console, 'error')];
    const ollama = await answering((_, response) => {
      response.writeHead(status, { 'content-type': 'text/html' }).end('<html>Hello</html>');
    });
    expect(await failure(ollama.load('llava', options()))).toMatchObject({ kind: 'protocol', status });
    for (const print of printed) expect(print).not.toHaveBeenCalled();
  });

  test('answers with broken JSON', async () => {
    const ollama = await answering((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"version":');
    });
    expect(await failure(ollama.version(soon()))).toMatchObject({ kind: 'protocol' });
  });

  test('does not speak HTTP', async () => {
    const server = createTcpServer((socket: Socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    servers.push(server);
    const { port } = server.address() as AddressInfo;
    const error = await failure(createOllama(`http://127.0.0.1:${port}`).version(soon()));
    expect(error).toMatchObject({ kind: 'protocol' });
  });

  test('leaves figures out: an error, never a zero', async () => {
    const models = [{ name: 'llava:7b', size: 1, expires_at: '2026-01-01T00:00:00Z' }];
    const ollama = await answering((_, response) => json(response, 200, { models }));
    const error = await failure(ollama.resident(soon()));
    expect(error).toMatchObject({ kind: 'protocol' });
    expect(error.message).toContain('size_vram');
  });
});

describe('an Ollama that reports an error', () => {
  test.each([
    'llama runner process has terminated: cudaMalloc failed: out of memory',
    'model requires more system memory (43.0 GiB) than is available (12.1 GiB)',
    'llama runner process has terminated: error loading model: unable to allocate CUDA0 buffer',
    'memory layout cannot be allocated with num_gpu = 26',
  ])('out of memory: %s', async (error) => {
    const ollama = await answering((_, response) => json(response, 500, { error }));
    expect(await failure(ollama.load('big:70b', options()))).toMatchObject({ kind: 'out-of-memory', status: 500 });
  });

  test.each([
    [500, 'llama runner process no longer running: 2', 'http'],
    [503, 'server busy, please try again.  maximum pending requests exceeded', 'http'],
    [400, 'invalid duration', 'http'],
    [404, "model 'llava' not found", 'model-missing'],
    [404, 'model "llava" not found, try pulling it first', 'model-missing'],
  ])('%i %s', async (status, error, kind) => {
    const ollama = await answering((_, response) => json(response, status, { error }));
    const failed = await failure(ollama.load('llava', options()));
    expect(failed).toMatchObject({ kind, status });
    expect(failed.message).toContain(error);
    if (kind === 'model-missing') expect(failed.remedy).toContain('ollama pull llava');
  });

  test.each([
    ['an error was encountered while running the model: CUDA error: out of memory', 'out-of-memory'],
    ['unexpected EOF', 'http'],
  ])('inside a stream, with status 200: %s', async (error, kind) => {
    const ollama = await answering((_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.end(`{"response":"a","done":false}\n${JSON.stringify({ error })}\n`);
    });
    expect(await failure(text(ollama.generate('llava', 'Hi', { signal: soon() })))).toMatchObject({
      kind,
      status: 200,
    });
  });

  test('by ending a stream without its last line', async () => {
    const ollama = await answering((_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' }).end('{"response":"a","done":false}\n');
    });
    const failed = await failure(text(ollama.generate('llava', 'Hi', { signal: soon() })));
    expect(failed).toMatchObject({ kind: 'protocol' });
    expect(failed.message).toContain('broke off');
  });

  test('by a probe that was answered without a token', async () => {
    const ollama = await answering((_, response) => json(response, 200, { response: '', done: true }));
    expect(await failure(ollama.probe('llava', options()))).toMatchObject({ kind: 'protocol' });
  });

  test('by an embedding that is empty', async () => {
    const ollama = await answering((request, response) => {
      if (request.url === '/api/embed') return json(response, 200, { embeddings: [] });
      json(response, 400, { error: '"nomic-embed-text" does not support generate' });
    });
    expect(await failure(ollama.probe('nomic-embed-text', options()))).toMatchObject({ kind: 'protocol' });
  });
});

describe('a caller that gives up', () => {
  test.each([
    ['timeout', () => AbortSignal.timeout(50)],
    ['aborted', () => AbortSignal.abort()],
  ] as const)('by %s', async (kind, signal) => {
    const ollama = await answering(() => {}); // Never answers.
    expect(await failure(ollama.load('llava', { signal: signal(), keepAlive: '24h' }))).toMatchObject({ kind });
    expect(await failure(text(ollama.generate('llava', 'Hi', { signal: signal() })))).toMatchObject({ kind });
  });

  test('closes its own connection and no other', async () => {
    const arrived: { socket: Socket; response: ServerResponse }[] = [];
    const caller = new AbortController();
    const ollama = await answering(({ socket }, response) => {
      arrived.push({ socket, response });
      if (arrived.length === 2) caller.abort();
    });
    const kept = ollama.load('llava', options());
    const given = failure(ollama.load('qwen3-vl', { signal: caller.signal, keepAlive: '24h' }));
    expect(await given).toMatchObject({ kind: 'aborted' });
    const open = () => arrived.filter(({ socket }) => !socket.destroyed);
    await vi.waitFor(() => expect(open()).toHaveLength(1), { interval: 5 });
    for (const { response } of open()) json(response, 200, { response: '', done: true });
    await kept;
  });

  test('leaves no listener behind', async () => {
    const ollama = await answering((_, response) => json(response, 200, { version: '0.6.5' }));
    const { signal } = new AbortController();
    const added = vi.spyOn(signal, 'addEventListener');
    const removed = vi.spyOn(signal, 'removeEventListener');
    await ollama.version(signal);
    expect(added).toHaveBeenCalledTimes(1);
    expect(removed).toHaveBeenCalledWith('abort', added.mock.calls[0]?.[1]);
  });
});

describe('what is sent', () => {
  test('images are bytes, also when they look like a path', async () => {
    let sent: unknown;
    const ollama = await answering((request, response) => {
      let body = '';
      request.on('data', (data: Buffer) => {
        body += data.toString();
      });
      request.on('end', () => {
        sent = JSON.parse(body);
        response.writeHead(200, { 'content-type': 'application/x-ndjson' });
        response.end('{"response":"a cat","done":true,"eval_count":2}\n');
      });
    });
    const images = [Buffer.from('png').toString('base64'), '/etc/hostname'];
    expect(await text(ollama.generate('llava', 'What?', { signal: soon(), images }))).toBe('a cat');
    const bytes = Buffer.from('/etc/hostname', 'base64').toString('base64');
    expect(sent).toMatchObject({ images: [images[0], bytes], stream: true });
  });

  test('a model is asked about once; one that cannot be described hides no other', async () => {
    let shown = 0;
    const models = ['a', 'b'].map((name) => ({ name: `${name}:latest`, size: 3 * 2 ** 20, digest: name }));
    const ollama = await answering((request, response) => {
      if (request.url === '/api/tags') return json(response, 200, { models });
      shown += 1;
      if (shown === 1) return json(response, 500, { error: 'the file is broken' });
      json(response, 200, { capabilities: ['embedding'] });
    });
    const b = { name: 'b:latest', sizeMb: 3, embeddingOnly: true };
    expect(await ollama.installed(soon())).toEqual([{ name: 'a:latest', sizeMb: 3 }, b]);
    expect(await ollama.installed(soon())).toEqual([{ ...b, name: 'a:latest' }, b]);
    await ollama.installed(soon());
    expect(shown).toBe(3);
  });
});
