import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';

import { describe, expect, it, vi } from 'vitest';

import { createProbe } from '../../../src/adapters/health/check.js';
import { createCommandProbe } from '../../../src/adapters/health/command.js';
import { createHttpProbe, type HttpProbeOptions } from '../../../src/adapters/health/http.js';
import { createLogLineProbe } from '../../../src/adapters/health/logLine.js';
import { createTcpProbe } from '../../../src/adapters/health/tcp.js';
import { freePort } from '../../parts/ports.js';
import { lives, tempFolder, tidyLater } from '../processes/owned.js';

const never = (): AbortSignal => new AbortController().signal;

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  tidyLater(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

const http = (options: HttpProbeOptions) => createHttpProbe(options).check(never());

describe('any check', () => {
  it('ends at its time limit, also when the look does not hear its signal', async () => {
    const deaf = createProbe(() => new Promise(() => {}), 50);
    const result = await deaf.check(never());
    expect(result).toMatchObject({ ok: false, detail: 'no answer within 50 ms' });
    expect(result.ms).toBeGreaterThanOrEqual(45);
  });

  it('rejects with the reason of a caller that gives up', async () => {
    const given = new AbortController();
    const checked = createProbe(() => new Promise(() => {})).check(given.signal);
    given.abort(new Error('enough'));
    await expect(checked).rejects.toThrow('enough');
    await expect(createProbe(async () => ({ ok: true, detail: '' })).check(given.signal)).rejects.toThrow('enough');
  });
});

describe('an HTTP probe', () => {
  it('looks at the status and the body', async () => {
    const url = await serve((request, response) => {
      response.statusCode = request.url === '/teapot' ? 418 : 200;
      response.end('all systems go');
    });
    expect(await http({ url })).toMatchObject({ ok: true, detail: `${url}/ answered 200` });
    expect(await http({ url: `${url}/teapot` })).toMatchObject({ ok: false, detail: expect.stringContaining('418') });
    expect(await http({ url: `${url}/teapot`, status: [400, 499] })).toMatchObject({ ok: true });
    expect(await http({ url, contains: 'systems go' })).toMatchObject({ ok: true });
    expect(await http({ url, contains: '.*' })).toMatchObject({ ok: false, detail: expect.stringContaining('".*"') });
  });

  it('does not follow a redirect', async () => {
    const asked: (string | undefined)[] = [];
    const url = await serve((request, response) => {
      asked.push(request.url);
      response.writeHead(302, { location: '/elsewhere' }).end();
    });
    expect(await http({ url })).toMatchObject({ ok: false, detail: expect.stringContaining('302') });
    expect(asked).toEqual(['/']);
  });

  it('reads a body without an end up to its bound, and leaves no connection open', async () => {
    let open = 0;
    const url = await serve((_request, response) => {
      open++;
      response.on('close', () => open--);
      const write = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384))) continue;
      };
      response.on('drain', write);
      write();
    });
    expect(await http({ url, contains: 'y' })).toMatchObject({ ok: false });
    expect(await http({ url, contains: 'xx' })).toMatchObject({ ok: true });
    expect(await http({ url })).toMatchObject({ ok: true });
    await vi.waitFor(() => expect(open).toBe(0), 5_000);
  });

  it('says that nobody listens, that no answer comes, and that a body stops half-way', async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    expect(await http({ url })).toMatchObject({ ok: false, detail: expect.stringContaining('ECONNREFUSED') });
    const silent = await serve(() => {});
    expect(await http({ url: silent, timeoutMs: 100 })).toMatchObject({ detail: 'no answer within 100 ms' });
    const halting = await serve((_request, response) => void response.write('half'));
    expect(await http({ url: halting, contains: 'whole', timeoutMs: 100 })).toMatchObject({ ok: false });
  });

  it('stays on this machine unless it is allowed elsewhere', () => {
    for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '[::1]']) createHttpProbe({ url: `http://${host}:1/` });
    for (const host of ['192.168.1.5', 'example.org', '0.0.0.0', '127.evil.org', 'localhost.evil.org', '[::2]']) {
      expect(() => createHttpProbe({ url: `http://${host}/` })).toThrow('not on this machine');
      createHttpProbe({ url: `http://${host}/`, allowRemote: true });
    }
    expect(() => createHttpProbe({ url: 'file:///etc/passwd' })).toThrow('no HTTP URL');
    expect(() => createHttpProbe({ url: 'not an url' })).toThrow('no HTTP URL');
  });
});

describe('a TCP probe', () => {
  it('connects, and stays on this machine', async () => {
    const server = createTcpServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    expect(await createTcpProbe({ port }).check(never())).toMatchObject({ ok: true });
    server.close();
    await once(server, 'close');
    expect(await createTcpProbe({ port }).check(never())).toMatchObject({
      ok: false,
      detail: expect.stringContaining('ECONNREFUSED'),
    });
    expect(() => createTcpProbe({ port, host: '10.0.0.1' })).toThrow('not on this machine');
  });
});

describe('a log-line probe', () => {
  const seen = (match: { contains: string } | { pattern: string }, ...output: string[]) =>
    createLogLineProbe({
      match,
      async *lines() {
        yield* output;
      },
    }).check(never());

  it('finds a text in a line, or a line that fits an expression as a whole', async () => {
    expect(await seen({ contains: 'ready' }, 'starting', 'now ready to serve')).toMatchObject({
      ok: true,
      detail: 'it printed: now ready to serve',
    });
    expect(await seen({ contains: 'ready' }, 'starting')).toMatchObject({
      ok: false,
      detail: 'none of 1 lines of its output has "ready"',
    });
    expect(await seen({ pattern: 'ready|up in \\d+ s' }, 'up in 5 s')).toMatchObject({ ok: true });
    expect(await seen({ pattern: 'ready|up in \\d+ s' }, 'soon ready', 'up in 5 s or so')).toMatchObject({ ok: false });
    expect(() => createLogLineProbe({ match: { pattern: '(' }, async *lines() {} })).toThrow(SyntaxError);
  });

  it('ends at its time limit while the output waits', async () => {
    const waiting = createLogLineProbe({
      match: { contains: 'x' },
      timeoutMs: 50,
      lines: () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) }),
    });
    expect(await waiting.check(never())).toMatchObject({ ok: false, detail: 'no answer within 50 ms' });
  });
});

describe.runIf(process.platform !== 'win32')('a command probe', () => {
  const run = (code: string, timeoutMs?: number) =>
    createCommandProbe({
      argv: [process.execPath, '-e', code],
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    }).check(never());

  it('takes exit code 0 for well, and shows what the command said', async () => {
    expect(await run('console.log("fine"); console.log("more")')).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/exit code 0: fine$/),
    });
    expect(await run('console.error("no model"); process.exit(4)')).toMatchObject({
      ok: false,
      detail: expect.stringMatching(/exit code 4: no model$/),
    });
    expect(await run('process.kill(process.pid, "SIGKILL")')).toMatchObject({
      ok: false,
      detail: expect.stringContaining('SIGKILL'),
    });
    const missing = createCommandProbe({ argv: ['/no/such/program', '; exit 0'] });
    expect(await missing.check(never())).toMatchObject({ ok: false, detail: expect.stringContaining('ENOENT') });
  });

  it('passes words on as they are', async () => {
    const argv: [string, ...string[]] = [process.execPath, '-e', 'console.log(process.argv[1])', '$(id); `id` && "x"'];
    expect(await createCommandProbe({ argv }).check(never())).toMatchObject({
      ok: true,
      detail: expect.stringContaining('$(id); `id` && "x"'),
    });
  });

  it('is bounded in its output, and in time by the death of all that it started', async () => {
    expect((await run('console.log("x".repeat(1e6))')).detail.length).toBeLessThan(400);
    const file = join(await tempFolder(), 'pid');
    const child = 'require("child_process").spawn("sleep", ["60"], { stdio: "inherit" }).pid';
    const probe = createCommandProbe({
      argv: [
        process.execPath,
        '-e',
        `require("fs").writeFileSync(process.env.FILE, String(${child})); setInterval(() => {}, 1000)`,
      ],
      env: { FILE: file },
      timeoutMs: 1_500,
    });
    expect(await probe.check(never())).toMatchObject({ ok: false, detail: 'no answer within 1500 ms' });
    const pid = Number(await readFile(file, 'utf8'));
    await vi.waitFor(async () => expect(await lives(pid)).toBe(false), 5_000);
  });

  it('does not wait for a child that the command left behind', async () => {
    const left = 'require("child_process").spawn("sleep", ["2"], { stdio: "inherit" }).unref(); process.exit(0)';
    const result = await run(left);
    expect(result.ok).toBe(true);
    expect(result.ms).toBeLessThan(1_900);
  });

  it('is not run a second time while the first cannot be ended, as one that sudo runs as root', async () => {
    const file = join(await tempFolder(), 'pids');
    const code = 'require("fs").appendFileSync(process.env.FILE, process.pid + " "); setInterval(() => {}, 1000)';
    const argv: [string, ...string[]] = [process.execPath, '-e', code];
    const probe = createCommandProbe({ argv, env: { FILE: file }, timeoutMs: 1_500 });
    const kill = process.kill.bind(process);
    const forbidden = vi.spyOn(process, 'kill').mockImplementation((pid, signal) => {
      if (pid < 0) throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' });
      return kill(pid, signal);
    });
    tidyLater(() => forbidden.mockRestore());
    expect(await probe.check(never())).toMatchObject({ ok: false, detail: 'no answer within 1500 ms' });
    expect(await probe.check(never())).toMatchObject({ ok: false, detail: 'no answer within 1500 ms' });
    const pids = (await readFile(file, 'utf8')).trim().split(' ').map(Number);
    for (const pid of pids) kill(pid, 'SIGKILL');
    expect(pids).toHaveLength(1);
    await vi.waitFor(async () => expect(await lives(pids[0] ?? 0)).toBe(false), 5_000);
    // It has ended: the next check begins one.
    await probe.check(never());
    const [, next = 0] = (await readFile(file, 'utf8')).trim().split(' ').map(Number);
    kill(next, 'SIGKILL');
  });
});
