/**
 * examples/media-pipeline.yaml as its users run it: `npm start` and `vramflow up`, real processes from the first to the last,
 * no part of vramflow in this one. Only the ports are others: those of the example may be somebody's.
 */

import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../parts/ports.js';
import { testBinary } from '../parts/temporalBinary.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

describe.runIf(process.platform === 'linux')('examples/media-pipeline.yaml', { timeout: 180_000 }, () => {
  let folder: string;
  let file: string;
  let env: Record<string, string>;
  let temporalPort: number;
  let gateway: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vramflow-example-'));
    const example = await readFile(join(ROOT, 'examples/media-pipeline.yaml'), 'utf8');
    const moved = new Map<string, number>();
    // `:8188` and `[8188]`; figures of memory have a space before them.
    const port = /(?<=[:[])\d{4,5}\b/g;
    for (const [written] of example.matchAll(port)) moved.set(written, moved.get(written) ?? (await freePort()));
    expect([...moved.keys()].sort()).toEqual(['11434', '50000', '8000', '8099', '8188']);
    gateway = `http://127.0.0.1:${moved.get('8000')}`;
    file = join(folder, 'media-pipeline.yaml');
    await writeFile(
      file,
      example.replace(port, (written) => String(moved.get(written))),
    );
    temporalPort = await freePort();
    env = {
      // All else of the user lies below it: data, logs, sockets.
      HOME: folder,
      XDG_DATA_HOME: '',
      XDG_CONFIG_HOME: '',
      VRAMFLOW_TEMPORAL_BINARY: (await testBinary()).path,
      VRAMFLOW_TEMPORAL_PORT: String(temporalPort),
      VRAMFLOW_TEMPORAL_UI_PORT: String(await freePort()),
      VRAMFLOW_AGENT_LISTEN: '127.0.0.1:0',
    };
  });

  afterAll(async () => {
    await vramflow('down');
    for (const { pid } of await processesHere()) process.kill(pid, 'SIGKILL');
    await rm(folder, { recursive: true, force: true });
  });

  const vramflow = (...words: string[]) =>
    execa(process.execPath, [join(ROOT, 'bin/vramflow.js'), '--config', file, ...words], {
      cwd: folder,
      env,
      reject: false,
    });
  const timeOf = async (name: string) => (await stat(join(ROOT, name))).mtimeMs;
  /** In a process group of its own, as a shell starts it. */
  const npmStart = () =>
    execa(process.execPath, [join(ROOT, 'scripts/start.mjs'), '--simulate', '--config', file], {
      cwd: folder,
      env,
      reject: false,
      detached: true,
    });

  /** The live processes that have this test's home, whoever started them. */
  async function processesHere(): Promise<{ pid: number; command: string }[]> {
    const found = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
      try {
        const environment = await readFile(`/proc/${pid}/environ`, 'utf8');
        if (!environment.split('\0').includes(`HOME=${folder}`)) continue;
        const command = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ');
        found.push({ pid: Number(pid), command });
      } catch {
        // It has ended meanwhile.
      }
    }
    return found;
  }

  /** As the pipeline's own programs ask: no token. */
  async function ask(path: string, method = 'GET') {
    const response = await fetch(`${gateway}${path}`, { method });
    expect(response.status).toBe(200);
    return (await response.json()) as { services: Record<string, { state: string }>; [key: string]: unknown };
  }
  const states = async () =>
    Object.fromEntries(Object.entries((await ask('/gpu/status')).services).map(([name, { state }]) => [name, state]));

  it('says whose the port of Temporal is when it is taken, and leaves nothing behind', async () => {
    const squatter = createServer().listen(temporalPort, '127.0.0.1');
    await once(squatter, 'listening');
    try {
      const { exitCode, stdout, stderr } = await vramflow('up', '--simulate', '--detach');
      expect(exitCode).toBe(4);
      expect(stdout).toBe('');
      expect(stderr).toContain(`Port ${temporalPort} on 127.0.0.1 is in use by process ${process.pid}`);
      expect(stderr).toContain('temporal.port');
      expect(await processesHere()).toEqual([]);
    } finally {
      squatter.close();
      await once(squatter, 'close');
    }
  });

  it('that is interrupted before it is up says so with its exit code, and leaves no worker', async () => {
    const starting = vramflow('up', '--simulate', '--detach');
    starting.stderr.on('data', (said: Buffer) => {
      if (said.includes('SIMULATED: starting')) starting.kill('SIGINT');
    });
    expect(await starting).toMatchObject({ exitCode: 130, stdout: '' });
    expect((await processesHere()).filter(({ command }) => /worker\.js|--supervise/.test(command))).toEqual([]);
    await vramflow('down');
  });

  it('runs by `npm start`, says what it is and what to try next; Ctrl-C ends the workers, not the services', async () => {
    const [asked, installed] = await Promise.all(['package-lock.json', 'node_modules/.package-lock.json'].map(timeOf));
    expect(
      installed,
      '`npm start` would install modules, which a test must not: `npm ci` first',
    ).toBeGreaterThanOrEqual(asked ?? 0);
    const started = npmStart();
    const told = await new Promise<string>((done, reject) => {
      let text = '';
      started.stdout.on('data', (data: Buffer) => {
        text += data.toString();
        if (text.includes('vramflow.js down')) done(text);
      });
      void started.then(({ stderr }) => reject(new Error(`it ended:\n${stderr}`)));
    });
    expect(told).toContain('SIMULATED hardware (rtx4090)');
    const tries = [...told.matchAll(/^ {2}bin\/vramflow\.js (.+)$/gm)].map(([, words]) => words);
    expect(tries).toContain('status');
    const { exitCode, stdout, stderr } = await vramflow('status');
    expect([exitCode, stderr]).toEqual([0, 'SIMULATED host: nothing of this is real hardware']);
    expect(stdout).toContain('RTX 4090');
    expect((await vramflow('phase', 'prepare', '2')).exitCode).toBe(0);
    process.kill(-(started.pid ?? 0), 'SIGINT');
    expect((await started).stderr).toContain('The workers have ended.');
    const left = (await processesHere()).map(({ command }) => command);
    expect(left).not.toContainEqual(expect.stringContaining('worker.js'));
    expect(left).toContainEqual(expect.stringContaining('--name vidi'));
  });

  it('goes on in the background, and goes through its phases; plain HTTP says so without a token', async () => {
    const { exitCode, stdout } = await vramflow('up', '--simulate', '--detach');
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining('Try next:')]);
    for (const [phase, name] of [
      ['2', 'vidi'],
      ['3', 'cosyvoice'],
      ['4', 'comfyui'],
    ] as const) {
      const prepared = await vramflow('phase', 'prepare', phase);
      expect([prepared.exitCode, prepared.stdout]).toEqual([0, expect.stringContaining(`done: phase ${phase}`)]);
      const stopped = { comfyui: 'stopped', cosyvoice: 'stopped', vidi: 'stopped', ollama: 'stopped' };
      expect(await states()).toEqual({ ...stopped, [name]: 'ready' });
    }
    expect(await ask('/gpu/status')).toMatchObject({
      vram: { total_mb: 24_564, used_mb: expect.any(Number), free_mb: expect.any(Number) },
      lock: { holder: null },
      phase: '4',
      simulated: true,
    });
    // As the file's head says to try.
    await ask('/gpu/prepare-phase/4', 'POST');
  });

  it('a second `up` finds the running one, and `down` ends all of it', async () => {
    // The readers of the GPU come and go; these stay.
    const parts = async () =>
      (await processesHere()).filter(({ command }) => /--supervise|worker\.js|start-dev|simulator\/main/.test(command));
    const before = await parts();
    expect(before).toHaveLength(5);
    const second = await vramflow('up', '--simulate', '--detach');
    expect(second).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('vramflow runs already') });
    expect(second.stdout).toContain('Try next:');
    expect(await parts()).toEqual(before);
    // Services outlive what manages them, so this one is asked to end.
    await ask('/gpu/service/comfyui/stop', 'POST');
    const { exitCode, stdout } = await vramflow('down');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^Ended the workers \(supervisor \d+\), .*Temporal \(process \d+\), the simulated host/);
    expect(await processesHere()).toEqual([]);
  });
});
