/** What the Dockerfile puts together, laid out in a folder: does the agent live in it? */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { execa } from 'execa';
import { expect, it, vi } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const composeSchema = z.object({
  services: z.object({
    agent: z.object({ command: z.array(z.string()), healthcheck: z.object({ test: z.array(z.string()) }) }),
  }),
});

it('the files of the image are enough for the agent, and its health check finds it', async () => {
  const { agent } = composeSchema.parse(parse(await readFile('docker-compose.yml', 'utf8'), { merge: true })).services;
  const folder = await mkdtemp(join(tmpdir(), 'vramflow-image-'));
  const app = join(folder, 'app');
  await layOut(app);
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: join(folder, 'data'),
    VRAMFLOW_DATA_DIR: join(folder, 'data'),
    VRAMFLOW_CONFIG: join(process.cwd(), 'examples/rpa-assistant.yaml'),
    VRAMFLOW_HOST: 'image',
    VRAMFLOW_AGENT_LISTEN: '127.0.0.1:0',
    // Nobody listens there, so nothing of this machine is touched.
    VRAMFLOW_TEMPORAL_ADDRESS: '127.0.0.1:9',
    VRAMFLOW_OLLAMA_ENDPOINT: 'http://127.0.0.1:9',
    VRAMFLOW_GPU_READER: 'none',
  };
  const worker = spawn(process.execPath, agent.command, { cwd: app, env, stdio: ['ignore', 'ignore', 'pipe'] });
  let words = '';
  worker.stderr.on('data', (chunk: Buffer) => {
    words += chunk.toString();
  });
  const ended = once(worker, 'exit');
  try {
    const [, program, ...args] = agent.healthcheck.test;
    expect(program).toBe('vramflow');
    await vi.waitFor(
      async () => {
        expect(worker.exitCode, words).toBeNull();
        const { stdout } = await execa(process.execPath, [join(app, 'bin/vramflow.js'), ...args], {
          cwd: app,
          env,
          extendEnv: false,
        });
        expect(JSON.parse(stdout)).toMatchObject({ host: 'image', simulated: false });
      },
      { timeout: 30_000, interval: 200 },
    );
  } finally {
    worker.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  }
});

/** Does what the COPY lines of the last stage say. */
async function layOut(app: string): Promise<void> {
  const [stage = ''] = (await readFile('Dockerfile', 'utf8')).split(/^FROM /m).slice(-1);
  const copies = [...stage.matchAll(/^COPY (?:--from=\w+ )?(.+) (\S+)$/gm)];
  expect(copies.length).toBeGreaterThan(3);
  for (const [, names = '', target = ''] of copies) {
    for (const name of names.split(' ')) {
      const source = name.replace(/^\/app\//, '');
      const path = join(app, target.endsWith('/') ? join(target, basename(source)) : target);
      await mkdir(dirname(path), { recursive: true });
      // Modules look at nothing outside their folder; a link to dist would find the whole repository beside it.
      if (source === 'node_modules') await symlink(join(process.cwd(), source), path);
      else await cp(source, path, { recursive: true });
    }
  }
}
