/** The checks of the configuration, on a real process. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, vi } from 'vitest';
import { checkFile } from '../../src/config/load.js';
import { buildServices, containerOf } from '../../src/roles/buildServices.js';
import { tidyLater } from '../adapters/processes/owned.js';
import { testFolder } from '../agent/folder.js';
import { Sandbox } from '../config/sandbox.js';

const soon = () => AbortSignal.timeout(20_000);

async function pageThatAnswers(status: number): Promise<string> {
  const server = createServer((_, response) => response.writeHead(status).end());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  tidyLater(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** A service that does nothing; its page is another's. */
function serviceWith(health: object) {
  // Also in a container: it lives as long as the test.
  vi.stubEnv('VRAMFLOW_IN_CONTAINER', '0');
  const run = [process.execPath, '-e', 'setInterval(() => {}, 1000)'];
  const one = {
    run,
    vram_mb: 0,
    start_timeout_seconds: 0.5,
    health: { ...health, interval_seconds: 0.1, failures: 1 },
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

it('hands on how Docker gives a container its GPU, where the configuration says it', () => {
  const { config } = new Sandbox()
    .project('services:\n  a: { image: a, vram_mb: 1, gpu_access: cdi }\n  b: { image: b, vram_mb: 1 }\n')
    .load();
  const [a, b] = Object.entries(config.services).map(containerOf);
  expect(a).toMatchObject({ image: 'a', gpuAccess: 'cdi' });
  expect(b).not.toHaveProperty('gpuAccess');
});
