import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { GpuSample } from '../../src/simulator/sample.js';
import { ask, ensureBuilt, eventually, SimulatorProcess } from './processes.js';

const TTS = { name: 'tts', image: 'tts:1', vramMb: 4_000, bootMs: 1_000, stopMs: 100, health: null };

let folder: string;

beforeAll(() => {
  ensureBuilt();
  folder = mkdtempSync(join(tmpdir(), 'vf-'));
  writeFileSync(join(folder, 'services.json'), JSON.stringify({ containers: [TTS], programs: [] }));
});

afterAll(() => rmSync(folder, { recursive: true }));

const startSimulator = (...args: string[]): Promise<SimulatorProcess> =>
  SimulatorProcess.start('--preset', 'rtx4090', '--speed', '10', ...args);

it('says where its Docker daemon listens, and keeps the containers over a kill -9', async () => {
  const args = ['--services', join(folder, 'services.json'), '--state-file', join(folder, 'state.json')];
  const first = await startSimulator(...args);
  const socket = first.info.docker;
  expect((await ask(socket, 'GET', '/v1.41/version'))?.body).toMatchObject({ ApiVersion: '1.41' });
  expect((await ask(socket, 'GET', '/containers/nobody/json'))?.status).toBe(404);
  const inspect = async () =>
    (await ask(socket, 'GET', '/containers/tts/json'))?.body as { Id: string; State: { Pid: number } };
  const started = await post(socket, '/containers/tts/start');
  expect(started).toBe(204);
  const held = (simulator: SimulatorProcess, pid: number) => async () =>
    (await simulator.get<GpuSample>('/gpus')).processes.find((process) => process.pid === pid)?.mb;
  const before = await inspect();
  await eventually(held(first, before.State.Pid), (mb) => mb === TTS.vramMb);
  await eventually(
    () => first.get<{ containers: { isUp: boolean }[] }>('/state'),
    ({ containers }) => containers.every(({ isUp }) => isUp),
  );
  await first.end('SIGKILL');
  expect(await ask(socket, 'GET', '/_ping')).toBeNull();
  const second = await startSimulator(...args);
  expect(second.info.docker).toBe(socket);
  expect(await inspect()).toEqual(before);
  expect(await held(second, before.State.Pid)()).toBe(TTS.vramMb);
  await second.end();
});

it('refuses a services file that is none', async () => {
  writeFileSync(join(folder, 'broken.json'), '{"containers": [{}]}');
  await expect(startSimulator('--services', join(folder, 'broken.json'))).rejects.toThrow('ended with 2');
});

/** `ask` reads JSON, and this answers nothing. */
function post(socketPath: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method: 'POST', path, agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    sent.on('error', reject);
    sent.end();
  });
}
