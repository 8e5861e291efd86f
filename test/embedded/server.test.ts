/** The embedded server on the real `temporal`: what the other tests and `vramflow up` build on. */
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { SEARCH_ATTRIBUTES } from '../../src/contracts/names.js';
import { keepServer } from '../../src/embedded/keepServer.js';
import { ensureSearchAttributes, RETENTION_SECONDS } from '../../src/embedded/namespace.js';
import { lives } from '../../src/embedded/processProof.js';
import { serverFiles } from '../../src/embedded/record.js';
import { type EmbeddedOptions, ensureServer, findRunning, NAMESPACE, stopServer } from '../../src/embedded/server.js';
import { freePort } from '../parts/ports.js';
import { testBinary } from '../parts/temporalBinary.js';

const freePorts = async () => ({ port: await freePort(), uiPort: await freePort() });

let folder: string;
let options: EmbeddedOptions;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vramflow-embedded-'));
  options = { dataFolder: join(folder, 'data'), ...(await freePorts()), findBinary: testBinary };
});

afterAll(async () => {
  await stopServer(options);
  await rm(folder, { recursive: true, force: true });
});

async function withConnection<T>(work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address: `127.0.0.1:${options.port}` });
  try {
    return await work(connection);
  } finally {
    await connection.close();
  }
}

describe('the embedded server', () => {
  it('is started once by concurrent callers, with retention and search attributes', async () => {
    const lines: string[] = [];
    const progress = (line: string) => lines.push(line);
    const [first, second] = await Promise.all([
      ensureServer({ ...options, progress }),
      ensureServer({ ...options, progress }),
    ]);
    expect(second.pid).toBe(first.pid);
    expect([first.started, second.started].filter(Boolean)).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith('Starting'))).toHaveLength(1);
    await withConnection(async (connection) => {
      const namespace = await connection.workflowService.describeNamespace({ namespace: NAMESPACE });
      expect(Number(namespace.config?.workflowExecutionRetentionTtl?.seconds)).toBe(RETENTION_SECONDS);
      const listed = await connection.operatorService.listSearchAttributes({ namespace: NAMESPACE });
      expect(Object.keys(listed.customAttributes ?? {})).toEqual(
        expect.arrayContaining(Object.values(SEARCH_ATTRIBUTES)),
      );
      await ensureSearchAttributes(connection, NAMESPACE);
    });
    expect((await fetch(first.webUi)).status).toBe(200);
  });

  it('is found again on other ports than asked for, without a binary', async () => {
    const running = await findRunning(options.dataFolder);
    const again = await ensureServer({
      ...options,
      ...(await freePorts()),
      findBinary: () => Promise.reject(new Error('a running server needs no binary')),
    });
    expect(again).toEqual({ ...running, started: false });
  });

  it('comes back on its database after a kill -9, and is ended only by proof', async () => {
    await withConnection((connection) =>
      connection.workflowService.startWorkflowExecution({
        namespace: NAMESPACE,
        workflowId: 'survivor',
        workflowType: { name: 'none' },
        taskQueue: { name: 'none' },
        requestId: 'once',
      }),
    );
    const before = await findRunning(options.dataFolder);
    process.kill(before?.pid ?? 0, 'SIGKILL');
    const after = await ensureServer(options);
    expect(after.pid).not.toBe(before?.pid);
    expect(after.started).toBe(true);
    const { executions } = await withConnection((connection) =>
      connection.workflowService.listOpenWorkflowExecutions({
        namespace: NAMESPACE,
        startTimeFilter: { earliestTime: { seconds: null } },
      }),
    );
    expect(executions?.map((execution) => execution.execution?.workflowId)).toContain('survivor');
    expect(await stopServer(options)).toEqual({ pid: after.pid });
    expect(await findRunning(options.dataFolder)).toBeNull();
    expect(await stopServer(options)).toBeNull();
  });

  it('is started again when it dies, by whoever keeps it, until the signal', async () => {
    const { dataFolder } = options;
    const first = await ensureServer(options);
    const stop = new AbortController();
    const lines: string[] = [];
    const start = (signal: AbortSignal) => ensureServer({ ...options, signal });
    const kept = keepServer({ dataFolder, start, say: (line) => lines.push(line), signal: stop.signal });
    process.kill(first.pid, 'SIGKILL');
    const second = await vi.waitFor(
      async () => {
        const running = await findRunning(dataFolder);
        if (running === null || running.pid === first.pid) throw new Error('it does not run yet');
        return running;
      },
      { timeout: 30_000, interval: 100 },
    );
    await ensureServer(options);
    expect(lines).toContain('Temporal has ended; it starts again in 500 ms.');
    stop.abort();
    await kept;
    await stopServer(options);
    expect((await findRunning(dataFolder)) ?? 'none').toBe('none');
    expect(second.port).toBe(options.port);
  });

  it('names the port that is in use, its holder and the setting', async () => {
    const holder = createServer().listen(options.port, '127.0.0.1');
    await once(holder, 'listening');
    try {
      await expect(ensureServer(options)).rejects.toMatchObject({
        kind: 'port-in-use',
        message: expect.stringMatching(new RegExp(`Port ${options.port} .*process ${process.pid} `)) as string,
        remedy: expect.stringContaining('VRAMFLOW_TEMPORAL_PORT') as string,
      });
    } finally {
      holder.close();
      await once(holder, 'close');
    }
  });

  it('refuses a program older than the one that last wrote the database', async () => {
    const { path } = await testBinary();
    const findBinary = () => Promise.resolve({ path, server: [1, 29, 0] as const });
    await expect(ensureServer({ ...options, findBinary })).rejects.toMatchObject({ kind: 'database-newer' });
  });

  it('shows the last words of a server that dies at start', async () => {
    const dataFolder = join(folder, 'damaged');
    await mkdir(dataFolder);
    await writeFile(serverFiles(dataFolder).database, 'this is no database, and long enough to be looked at');
    await expect(ensureServer({ ...options, dataFolder })).rejects.toMatchObject({
      kind: 'died',
      message: expect.stringMatching(/not a database/) as string,
      remedy: expect.stringContaining('Move temporal.db') as string,
    });
  });

  it('says which data folder cannot be written', async () => {
    const file = join(folder, 'a-file');
    await writeFile(file, '');
    await expect(ensureServer({ ...options, dataFolder: join(file, 'data') })).rejects.toMatchObject({
      kind: 'data-folder',
      message: expect.stringContaining(file) as string,
    });
  });

  it('does not wait for ever for a server that never answers', async () => {
    const path = join(folder, 'mute');
    await writeFile(path, '#!/bin/sh\necho "I say nothing more"\nexec sleep 600\n');
    await chmod(path, 0o755);
    const dataFolder = join(folder, 'mute-data');
    const mute = {
      ...options,
      dataFolder,
      readyMs: 300,
      findBinary: () => Promise.resolve({ path, server: [1, 29, 1] as const }),
    };
    await expect(ensureServer(mute)).rejects.toMatchObject({
      kind: 'not-ready',
      message: expect.stringContaining('I say nothing more') as string,
    });
    const running = await findRunning(dataFolder);
    expect(await stopServer({ dataFolder })).toEqual({ pid: running?.pid });
  });

  it('takes another process with the recorded pid for a stranger', async () => {
    const stranger = { bootId: 'another boot', pid: process.pid, startTicks: 1, marker: 'not ours' };
    expect(await lives(stranger)).toBe(false);
  });
});
