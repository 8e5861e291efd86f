import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { Agent, getGlobalDispatcher, setGlobalDispatcher } from 'undici';
import { describe, expect, it, onTestFinished } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import { main } from '../../src/client.js';

/** Runs a command line with this in the agent's place. */
async function runAgainst(answer: RequestListener, ...argv: string[]) {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const folder = mkdtempSync(join(tmpdir(), 'vramflow-cli-'));
  onTestFinished(() => {
    server.close();
    rmSync(folder, { recursive: true });
  });
  writeFileSync(join(folder, 'token'), 'a-token-for-this-test');
  const listen = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const env = { HOME: folder, VRAMFLOW_DATA_DIR: folder, VRAMFLOW_AGENT_LISTEN: listen };
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const code = await main(argv, { env, cwd: folder, stdout, stderr });
  return { code, stdout: String(stdout.read() ?? ''), stderr: String(stderr.read() ?? '') };
}

const page =
  (status: number, type: string): RequestListener =>
  (_, response) =>
    void response.writeHead(status, { 'content-type': type }).end('<p>Hello</p>');

describe('another program where the agent should answer', () => {
  it.each([
    { status: 200, type: 'text/html', argv: ['status'] },
    { status: 200, type: 'text/html', argv: ['generate', 'vlm', 'hello'] },
    { status: 404, type: 'text/html', argv: ['can-fit', '1'] },
    { status: 404, type: 'application/json', argv: ['history'] },
  ])('$argv, answered with $status and $type: no mistake of vramflow', async ({ status, type, argv }) => {
    const { code, stdout, stderr } = await runAgainst(page(status, type), ...argv, '-o', 'json');
    expect({ code, stdout }).toEqual({ code: EXIT.unavailable, stdout: '' });
    expect(JSON.parse(stderr)).toMatchObject({
      error: {
        code: 'unavailable',
        message: expect.stringMatching(/^What answers at http:\/\/127\.0\.0\.1:\d+ is no agent of vramflow/),
        remedy: expect.stringContaining('agent.listen'),
      },
    });
  });
});

it('history asks for operations alone: no chatter, however much, hides them', async () => {
  const asked: string[] = [];
  const answer: RequestListener = ({ url }, response) => {
    asked.push(url ?? '');
    response.writeHead(200, { 'content-type': 'application/json' }).end('[]');
  };
  const { stdout } = await runAgainst(answer, 'history');
  expect(stdout).toMatch(/^no operation has ended yet/);
  expect(asked).toEqual(['/v1/journal?type=operation&limit=50']);
});

it('an answer that is silent for long is waited for', async () => {
  const former = getGlobalDispatcher();
  onTestFinished(() => setGlobalDispatcher(former));
  // What is 300 s elsewhere; undici looks every second.
  setGlobalDispatcher(new Agent({ bodyTimeout: 100 }));
  const answer: RequestListener = (_, response) => {
    response.writeHead(200).write('{"text":"Hel"}\n');
    setTimeout(() => response.end('{"text":"lo","done":true}\n'), 3_000);
  };
  expect(await runAgainst(answer, 'generate', 'vlm', 'hello')).toMatchObject({ code: EXIT.ok, stdout: 'Hello\n' });
});

it('a request for a model ends as what cannot be reached when Temporal is away', async () => {
  const line = JSON.stringify({ error: { code: 'unavailable', message: 'Temporal does not answer', remedy: 'wait' } });
  const answer: RequestListener = (_, response) => void response.writeHead(200).end(`${line}\n`);
  expect(await runAgainst(answer, 'generate', 'vlm', 'hello')).toMatchObject({ code: EXIT.unavailable });
});
