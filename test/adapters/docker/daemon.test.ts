import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDaemon } from '../../../src/adapters/docker/daemon.js';
import { createDockerDriver } from '../../../src/adapters/docker/driver.js';
import type { ServiceDriver } from '../../../src/adapters/services/driver.js';
import { freePort } from '../../parts/ports.js';

let folder: string;
let socketPath: string;
let server: Server | null;
let driver: ServiceDriver | null;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vramflow-daemon-'));
  socketPath = join(folder, 'docker.sock');
  server = null;
  driver = null;
});

afterEach(async () => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
  await driver?.close();
  server?.closeAllConnections();
  await new Promise((resolve) => (server === null ? resolve(null) : server.close(resolve)));
  await rm(folder, { recursive: true });
});

async function serve(
  listener: RequestListener,
  where: string | { host: string; port: number } = socketPath,
): Promise<void> {
  const started = createServer(listener);
  server = started;
  await new Promise<void>((resolve) => started.listen(where, resolve));
}

const soon = () => AbortSignal.timeout(30_000);

/** A daemon that is well, but for one container: what is asked about that is never answered, as on a lost GPU. */
const holdsUp =
  (container: string): RequestListener =>
  (request, response) => {
    const url = request.url ?? '';
    if (url === '/_ping') response.end('OK');
    else if (url.startsWith('/events')) response.writeHead(200).flushHeaders();
    else if (!url.includes(container)) response.writeHead(404).end(JSON.stringify({ message: 'No such container' }));
  };

describe('a daemon', () => {
  it('is that of the configuration, whatever the environment says', async () => {
    vi.stubEnv('DOCKER_HOST', 'tcp://192.0.2.1:2376');
    vi.stubEnv('DOCKER_TLS_VERIFY', '1');
    await serve((_request, response) => response.end('OK'));
    await createDaemon({ socketPath }).ping(soon());
  });

  it('can be reached over loopback', async () => {
    const address = { host: '127.0.0.1', port: await freePort() };
    await serve((_request, response) => response.end(JSON.stringify({ Id: 'abc', Name: '/tts' })), address);
    const daemon = createDaemon(address);
    await daemon.ping(soon());
    expect(await daemon.inspect('tts', soon())).toMatchObject({ Id: 'abc' });
  });

  it('gets the environment of a container in the body, and not in the URL, which is logged', async () => {
    const asked: { url: string; body: string }[] = [];
    await serve((request, response) => {
      let body = '';
      request.on('data', (chunk) => (body += String(chunk)));
      request.on('end', () => {
        asked.push({ url: request.url ?? '', body });
        response.writeHead(201).end(JSON.stringify({ Id: 'abc' }));
      });
    });
    const id = await createDaemon({ socketPath }).create({ name: 'vramflow-tts', Env: ['TOKEN=secret'] }, soon());
    expect(id).toBe('abc');
    expect(asked).toEqual([
      { url: '/containers/create?name=vramflow-tts', body: JSON.stringify({ Env: ['TOKEN=secret'] }) },
    ]);
  });

  it('does not take a container for another whose id begins with its name', async () => {
    await serve((_request, response) => response.end(JSON.stringify({ Id: 'abcdef', Name: '/other' })));
    const daemon = createDaemon({ socketPath });
    expect(await daemon.inspect('abc', soon())).toBeNull();
    expect(await daemon.inspect('other', soon())).toMatchObject({ Id: 'abcdef' });
  });

  it('that this user may not use says what to do', async () => {
    await serve((_request, response) => response.end('OK'));
    await chmod(folder, 0o755);
    await chmod(socketPath, 0o000);
    const isRoot = process.getuid?.() === 0;
    // Root may everything: so for a moment this is nobody.
    if (isRoot) process.seteuid?.(65_534);
    try {
      await expect(createDaemon({ socketPath }).ping(soon())).rejects.toMatchObject({
        kind: 'not-permitted',
        remedy: expect.stringContaining('docker group'),
      });
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  it('may take for a start as long as its caller waits, and no longer', async () => {
    // A minute passes in 60 ms, for whatever sets a limit.
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => timeout(ms / 1_000));
    await serve((request, response) => {
      if (request.url?.includes('slow')) setTimeout(() => response.writeHead(204).end(), 300);
    });
    const daemon = createDaemon({ socketPath });
    await daemon.start('slow', AbortSignal.timeout(3_600_000));
    await expect(daemon.start('hung', AbortSignal.timeout(120_000))).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  it('is given up when its caller leaves', async () => {
    await serve(() => {});
    const caller = new AbortController();
    const asking = createDaemon({ socketPath }).imageId('tts', caller.signal);
    caller.abort(new Error('left'));
    await expect(asking).rejects.toThrow('left');
  });
});

describe('what is no daemon', () => {
  it('is away, with what it said', async () => {
    await serve((_request, response) => response.writeHead(403).end('Forbidden by a proxy'));
    driver = createDockerDriver({ daemon: { socketPath }, services: [{ name: 'tts', container: 'tts' }], owner: 'me' });
    await driver.look(soon());
    expect(driver.problem()).toMatch(/answers 403: .*Forbidden by a proxy.*Check that docker\.socket/);
  });
});

describe('a daemon that hangs', () => {
  it('is away, with a remedy, within five seconds', { timeout: 20_000 }, async () => {
    await serve(() => {});
    driver = createDockerDriver({ daemon: { socketPath }, services: [{ name: 'tts', container: 'tts' }], owner: 'me' });
    const begun = performance.now();
    await driver.look(soon());
    expect(performance.now() - begun).toBeLessThan(8_000);
    expect(driver.problem()).toContain('did not answer within 5 s');
    expect(driver.sights()).toMatchObject([{ state: 'unknown' }]);
  });

  it('over one container leaves only that one unknown, and does not call it stopped', { timeout: 40_000 }, async () => {
    await serve(holdsUp('lost'));
    const services = ['lost', 'other'].map((name) => ({ name, container: name }));
    driver = createDockerDriver({ daemon: { socketPath }, services, owner: 'me' });
    await driver.look(soon());
    expect(driver.problem()).toBeNull();
    expect(driver.sights()).toMatchObject([
      { service: 'lost', state: 'unknown' },
      { service: 'other', state: 'absent' },
    ]);
    await expect(driver.stop('lost', { graceMs: 0, signal: soon() })).rejects.toMatchObject({ kind: 'unavailable' });
  });
});
