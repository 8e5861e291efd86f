import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEmbedderLauncher } from '../../src/adapters/clip/embedder.js';
import { embedderDetails } from '../../src/adapters/clip/embedderRecord.js';
import { createRecordStore } from '../../src/adapters/processes/records.js';
import { lockFolder } from '../../src/agent/lock.js';
import { main } from '../../src/client.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { lives, tidyLater } from '../adapters/processes/owned.js';

describe.runIf(process.platform === 'linux')('vramflow down', { timeout: 30_000 }, () => {
  let data: string;
  let simulator: RunningSimulator;

  beforeEach(async () => {
    data = await mkdtemp(join(tmpdir(), 'vramflow-down-'));
    simulator = await startSimulator({ preset: 'rtx4090', speed: 10 });
  });
  afterEach(async () => {
    await simulator.stop();
    await rm(data, { recursive: true });
  });

  async function down() {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const context = { env: { HOME: data, VRAMFLOW_DATA_DIR: data }, cwd: data, stdout, stderr };
    const code = await main(['down', '-o', 'json'], context);
    return { code, ended: JSON.parse(String(stdout.read())) as { embedder_pids: number[] } };
  }

  /** An embedder as an agent leaves it; the folder's name is so long that the socket lies in one of its own. */
  async function leftBehind(kind: 'simulated' | 'real') {
    const folder = join(data, 'agents', `host-${'x'.repeat(80)}`, kind);
    const stateDir = join(folder, 'embedder');
    await mkdir(stateDir, { recursive: true });
    const command = [...simulator.info.embedder];
    const launcher = createEmbedderLauncher({ command, model: 'ViT-B-32', stateDir, gpuProvider: 'cuda' });
    const { pid } = await launcher.start('cpu', { gpu: null, signal: AbortSignal.timeout(15_000) });
    tidyLater(async () => {
      if (await lives(pid)) process.kill(pid, 'SIGKILL');
    });
    const [record] = await createRecordStore(stateDir, embedderDetails).list();
    const socketFolder = dirname(record?.socket ?? '');
    expect(socketFolder).toContain(join(tmpdir(), 'vramflow-'));
    expect(existsSync(socketFolder)).toBe(true);
    return { folder, stateDir, pid, socketFolder };
  }

  it.each(['simulated', 'real'] as const)(
    'ends the embedder of a %s host, and removes what it lay in',
    async (kind) => {
      const { pid, stateDir, socketFolder } = await leftBehind(kind);
      expect(await down()).toMatchObject({ code: 0, ended: { embedder_pids: [pid] } });
      expect(await lives(pid)).toBe(false);
      expect(existsSync(socketFolder)).toBe(false);
      expect(await readdir(stateDir)).toEqual([]);
      expect((await down()).ended.embedder_pids).toEqual([]);
    },
  );

  it('leaves that of an agent which it did not end', async () => {
    const { pid, folder } = await leftBehind('real');
    const agent = await lockFolder(folder);
    expect((await down()).ended.embedder_pids).toEqual([]);
    expect(await lives(pid)).toBe(true);
    agent.close();
    expect((await down()).ended.embedder_pids).toEqual([pid]);
  });
});
