/** On a simulated host, nothing of the user's services is run, adopted or called. */
import { expect, it } from 'vitest';
import { pageOf } from '../../src/config/simulatedServices.js';
import { SIMULATOR_VARIABLE, withSimulator } from '../../src/config/simulatorOverlay.js';
import { Sandbox } from './sandbox.js';

const SIMULATOR = {
  ollama: 'http://127.0.0.1:9',
  docker: '/sim/docker.sock',
  nvidiaSmi: ['sim-smi'],
  embedder: ['sim-clip'],
  service: ['sim-service'],
};
const env = { [SIMULATOR_VARIABLE]: JSON.stringify(SIMULATOR) };
const simulated = (yaml: string) => withSimulator(new Sandbox().project(yaml).load(), env);
const healthOf = (health: string) => simulated(`services: { a: { run: [a], vram_mb: 1, health: ${health} } }`);

it('keeps of a native service what the planner needs, and says where each value comes from', () => {
  const { config, origins } = simulated(`services:
  a:
    run: [real]
    directory: /nowhere
    adopt: [real]
    env: { NODE_OPTIONS: --inspect }
    ports: [8001]
    vram_mb: 7
    priority: 3
    pinned: true
    serves: ollama
    start_timeout_seconds: 8
    stop_timeout_seconds: 9
    health: { command: [real, check], interval_seconds: 2, timeout_seconds: 3, failures: 4 }
`);
  expect(config.services['a']).toEqual({
    run: ['sim-service', '--name', 'a'],
    env: {},
    mounts: {},
    ports: [8001],
    vram_mb: 7,
    priority: 3,
    pinned: true,
    serves: 'ollama',
    start_timeout_seconds: 8,
    stop_timeout_seconds: 9,
    health: { log: ': ready', allow_remote: false, interval_seconds: 2, timeout_seconds: 3, failures: 4 },
  });
  const from = (key: string) => origins.get(`services.a.${key}`)?.from;
  expect(['run', 'health.log', 'ports', 'vram_mb', 'health.failures', 'env', 'health.allow_remote'].map(from)).toEqual([
    'simulate',
    'simulate',
    'project',
    'project',
    'project',
    'default',
    'default',
  ]);
  expect(['adopt', 'directory', 'env.NODE_OPTIONS', 'health.command'].map(from)).toEqual(Array(4).fill(undefined));
});

it('keeps of a container which it is and how it gets its GPU, and mounts nothing', () => {
  const { config } = simulated(`services:
  made: { image: x, command: [y], env: { A: b }, mounts: { /home: /h }, gpu_access: cdi, ports: [1234], vram_mb: 1, health: { command: [real] } }
  there: { container: x, vram_mb: 1, health: { log: listening } }
  plain: { container: z, vram_mb: 1 }
`);
  const { made, there, plain } = config.services;
  expect(made).toMatchObject({ image: 'x', gpu_access: 'cdi', ports: [1234], env: {}, mounts: {} });
  expect(made).not.toHaveProperty('command');
  expect(made?.health).toMatchObject({ log: ': ready' });
  expect(there).toMatchObject({ container: 'x', health: { log: ': ready' } });
  expect(plain).not.toHaveProperty('health');
});

it.each([
  ['{ http: "http://127.0.0.1:8001/up" }', { http: 'http://127.0.0.1:8001/up' }],
  ['{ http: "http://localhost:8001/up?full=1", body: fine, status: 401 }', { http: 'http://127.0.0.1:8001/up' }],
  ['{ tcp: "[::1]:8001" }', { tcp: '127.0.0.1:8001' }],
  ['{ http: "https://127.0.0.1:8001/up" }', { log: ': ready' }],
  ['{ http: "http://elsewhere:8001/up", allow_remote: true }', { log: ': ready' }],
  ['{ tcp: "999.1.1.1:8001", allow_remote: true }', { log: ': ready' }],
  ['{ log: listening }', { log: ': ready' }],
])('checks %s by what the simulator plays', (written, played) => {
  const { health } = healthOf(written).config.services['a'] ?? {};
  expect(health).toEqual({ ...played, allow_remote: false, interval_seconds: 5, timeout_seconds: 5, failures: 3 });
});

it('counts the port of its page among its ports: a real program there is not asked', () => {
  expect(healthOf('{ http: "http://127.0.0.1:8001/" }').config.services['a']?.ports).toEqual([8001]);
  expect(healthOf('{ http: "https://127.0.0.1:8001/" }').config.services['a']?.ports).toEqual([]);
});

it('has no page where the real one is elsewhere or encrypted', () => {
  const common = { allow_remote: true, interval_seconds: 5, timeout_seconds: 5, failures: 3 };
  expect(pageOf({ ...common, tcp: 'elsewhere:1' })).toBeNull();
  expect(pageOf({ ...common, http: 'http://127.0.0.1/' })).toEqual({ port: 80, path: '/' });
});
