/** The checks of the configuration, on a real process. */
import { once } from 'node:events';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { checkFile } from '../../src/config/load.js';
import { buildServices, containerOf } from '../../src/roles/buildServices.js';
import { tidyLater } from '../adapters/processes/owned.js';
import { testFolder } from '../agent/folder.js';
import { Sandbox } from '../config/sandbox.js';
import { freePort } from '../parts/ports.js';

const soon = () => AbortSignal.timeout(20_000);

async function pageThatAnswers(status: number, body = ''): Promise<string> {
  const server = createServer((_, response) => response.writeHead(status).end(body));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  tidyLater(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A service that prints one line; its page is another's. */
function serviceWith(health: object, more: object = {}) {
  // Also in a container: it lives as long as the test.
  vi.stubEnv('VRAMFLOW_IN_CONTAINER', '0');
  const run = [process.execPath, '-e', 'console.log("To see it go to 8188"); setInterval(() => {}, 1000)'];
  const one = {
    run,
    vram_mb: 0,
    start_timeout_seconds: 0.5,
    health: { ...health, interval_seconds: 0.1, failures: 1 },
    ...more,
  };
  const sandbox = new Sandbox().project(JSON.stringify({ services: { one } }));
  const services = buildServices(checkFile(sandbox.projectFile, sandbox.home).config, testFolder(), () => Date.now());
  tidyLater(async () => {
    await services.stop('one', { graceMs: 0, endMs: 5_000, signal: soon() });
    await services.close();
    vi.unstubAllEnvs();
  });
  return services;
}

it.each([
  [204, undefined, true],
  [401, undefined, false],
  [401, 401, true],
  [204, 401, false],
  [302, [200, 399], true],
  [404, [200, 399], false],
])('a page that answers %d where the configuration says %j: ready %j', async (answer, status, isReady) => {
  const services = serviceWith({ http: await pageThatAnswers(answer), status });
  const start = services.start('one', [], soon());
  if (isReady) expect((await start).health.state).toBe('ready');
  else await expect(start).rejects.toThrow(`answered ${answer}, not`);
});

it.each([
  ['all is well', true],
  ['all is wrong', false],
])('a page that must hold "is well" and holds "%s": ready %j', async (body, isReady) => {
  const start = serviceWith({ http: await pageThatAnswers(200, body), body: 'is well' }).start('one', [], soon());
  if (isReady) expect((await start).health.state).toBe('ready');
  else await expect(start).rejects.toThrow('is well');
});

it('an address that takes connections is ready, and one that does not is not', async () => {
  const { host } = new URL(await pageThatAnswers(200));
  expect((await serviceWith({ tcp: host }).start('one', [], soon())).health.state).toBe('ready');
  const nobody = `127.0.0.1:${await freePort()}`;
  await expect(serviceWith({ tcp: nobody }).start('one', [], soon())).rejects.toThrow('ECONNREFUSED');
});

it('a line of the output that holds the text is ready, and no other is', async () => {
  const printed = serviceWith({ log: 'go to 8188' }, { start_timeout_seconds: 10 });
  expect((await printed.start('one', [], soon())).health.state).toBe('ready');
  await expect(serviceWith({ log: 'go to 8189' }).start('one', [], soon())).rejects.toThrow('has "go to 8189"');
});

it('a program that ends with 0 is ready, in the folder and with the environment of the service', async () => {
  const command = ['sh', '-c', 'test "$PWD" = "$WHERE"'];
  const here = realpathSync(testFolder());
  const start_timeout_seconds = 10;
  const well = serviceWith({ command }, { directory: here, env: { WHERE: here }, start_timeout_seconds });
  expect((await well.start('one', [], soon())).health.state).toBe('ready');
  const unwell = serviceWith({ command }, { directory: here, env: { WHERE: '/' } });
  await expect(unwell.start('one', [], soon())).rejects.toThrow('exit code 1');
});

it('asks Docker for what the configuration says of a container, and for nothing of one that exists', () => {
  const sandbox = new Sandbox().project(`services:
  made: { image: a, command: [serve, --fast], env: { A: b }, ports: [8001], mounts: { models: /models }, vram_mb: 1 }
  there: { container: mcn_b, env: { A: b }, ports: [8002], health: { command: [check] }, vram_mb: 1 }
`);
  const [made, there] = Object.entries(sandbox.load().config.services).map(containerOf);
  expect(made).toEqual({
    name: 'made',
    image: 'a',
    command: ['serve', '--fast'],
    env: { A: 'b' },
    ports: [{ host: 8001, container: 8001 }],
    mounts: [{ source: join(sandbox.cwd, 'models'), target: '/models' }],
  });
  expect(there).toEqual({ name: 'there', container: 'mcn_b' });
});

it('hands on how Docker gives a container its GPU, where the configuration says it', () => {
  const { config } = new Sandbox()
    .project('services:\n  a: { image: a, vram_mb: 1, gpu_access: cdi }\n  b: { image: b, vram_mb: 1 }\n')
    .load();
  const [a, b] = Object.entries(config.services).map(containerOf);
  expect(a).toMatchObject({ image: 'a', gpuAccess: 'cdi' });
  expect(b).not.toHaveProperty('gpuAccess');
});
