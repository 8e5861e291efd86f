/** A user's services on a simulated host: each starts, however the real one is run and checked. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, vi } from 'vitest';
import { simulatedServices } from '../../src/config/simulatedServices.js';
import { SIMULATOR_VARIABLE, withSimulator } from '../../src/config/simulatorOverlay.js';
import { buildServices } from '../../src/roles/buildServices.js';
import { startSimulator } from '../../src/simulator/simulator.js';
import { tidyLater } from '../adapters/processes/owned.js';
import { testFolder } from '../agent/folder.js';
import { Sandbox } from '../config/sandbox.js';
import { freePort } from '../parts/ports.js';
import { ensureBuilt } from '../simulator/processes.js';

const soon = () => AbortSignal.timeout(20_000);

async function simulated(services: Record<string, object>) {
  ensureBuilt();
  // Also in a container: each lives as long as the test.
  vi.stubEnv('VRAMFLOW_IN_CONTAINER', '0');
  const folder = testFolder();
  const loaded = new Sandbox().project(JSON.stringify({ services })).load();
  const servicesFile = join(folder, 'services.json');
  writeFileSync(servicesFile, JSON.stringify(simulatedServices(loaded.config)));
  const simulator = await startSimulator({ preset: 'rtx4090', speed: 20, servicesFile });
  const { config } = withSimulator(loaded, { [SIMULATOR_VARIABLE]: JSON.stringify(simulator.info) });
  const built = buildServices(config, folder, () => Date.now());
  tidyLater(async () => {
    for (const name of Object.keys(services)) await built.stop(name, { graceMs: 0, endMs: 5_000, signal: soon() });
    await built.close();
    await simulator.stop();
    vi.unstubAllEnvs();
  });
  return built;
}

it('starts natives and containers whose folder, page and programs are not here', async () => {
  const [page, tcp, image] = await Promise.all([freePort(), freePort(), freePort()]);
  const checks = {
    page: { http: `http://localhost:${page}/up?full=1`, body: 'all is well', status: 418 },
    tcp: { tcp: `127.0.0.1:${tcp}` },
    https: { http: 'https://127.0.0.1:1/' },
    far: { http: 'http://far.invalid/', allow_remote: true },
    log: { log: 'To see the GUI go to' },
    command: { command: ['false'] },
  };
  const natives = Object.entries(checks).map(([name, health]) => [
    name,
    {
      run: ['no-such-program'],
      directory: '/no/such/folder',
      vram_mb: 10,
      health: { ...health, interval_seconds: 0.1 },
    },
  ]);
  const { log, command } = checks;
  const built = await simulated({
    ...Object.fromEntries(natives),
    container: { container: 'there', vram_mb: 10, health: { ...log, interval_seconds: 0.1 } },
    image: {
      image: 'made',
      mounts: { '/no/such/folder': '/x' },
      ports: [image],
      vram_mb: 10,
      health: { ...command, interval_seconds: 0.1 },
    },
  });
  for (const { name } of built.views()) {
    expect((await built.start(name, [], soon())).health, name).toMatchObject({ state: 'ready' });
  }
});

it('takes no real program for the simulated service', async () => {
  const real = spawn(process.execPath, ['-e', 'console.log("up"); setInterval(() => {}, 1000)', 'mine']);
  tidyLater(() => void real.kill('SIGKILL'));
  await once(real.stdout, 'data');
  const adopt = [process.execPath, '-e', 'console.log("up"); setInterval(() => {}, 1000)', 'mine'];
  const built = await simulated({ mine: { run: adopt, adopt, vram_mb: 10 } });
  await built.look(soon());
  expect(built.view('mine').sight).toMatchObject({ state: 'absent', pids: [] });
});
