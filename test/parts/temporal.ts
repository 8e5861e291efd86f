/** Temporal servers for tests: the real dev server, and the one whose time can be skipped. */
import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { TestWorkflowEnvironment } from '@temporalio/testing';

import type { Binary } from '../../src/embedded/binary.js';
import { ensureSearchAttributes } from '../../src/embedded/namespace.js';
import { ensureServer, NAMESPACE, stopServer } from '../../src/embedded/server.js';
import { freePort } from './ports.js';
import { testBinary } from './temporalBinary.js';

export interface TestServer {
  /** host:port of gRPC. */
  address: string;
  namespace: string;
  webUi: string;
  pid: number;
  dataFolder: string;
  /** `kill -9`, as a crash; the database stays. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** Brings it up again on the same ports and database. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface TestServerOptions {
  /** False: the stock settings, to measure against. */
  tuned?: boolean;
  /** More settings of the server, for example a lower limit of a history. */
  dynamicConfig?: Record<string, number | string>;
}

/** One dev server with a database of its own, tuned and with vramflow's search attributes, on free ports. */
export async function startTemporal({ dynamicConfig, ...options }: TestServerOptions = {}): Promise<TestServer> {
  const dataFolder = await mkdtemp(join(tmpdir(), 'vramflow-temporal-'));
  const ports = { port: await freePort(), uiPort: await freePort() };
  const findBinary = dynamicConfig ? () => withSettings(dataFolder, dynamicConfig) : testBinary;
  const start = () => ensureServer({ dataFolder, ...ports, ...options, findBinary });
  const { address, webUi, pid } = await start();
  const server: TestServer = {
    address,
    namespace: NAMESPACE,
    webUi,
    pid,
    dataFolder,
    async kill() {
      process.kill(server.pid, 'SIGKILL');
      await stopServer({ dataFolder });
    },
    async restart() {
      server.pid = (await start()).pid;
    },
    async stop() {
      await stopServer({ dataFolder });
      await rm(dataFolder, { recursive: true, force: true });
    },
  };
  return server;
}

/** A script that starts the server with more settings than vramflow gives it. */
async function withSettings(folder: string, settings: Record<string, number | string>): Promise<Binary> {
  const { path, server } = await testBinary();
  const flags = Object.entries(settings).map(([key, value]) => `--dynamic-config-value '${key}=${value}'`);
  const script = join(folder, 'temporal');
  await writeFile(script, `#!/bin/sh\nexec '${path}' "$@" ${flags.join(' ')}\n`, { mode: 0o755 });
  return { path: script, server };
}

/** Names a script that runs the Java test server; `.ci/run` sets it. */
const TIME_SKIPPING_VARIABLE = 'VRAMFLOW_TEST_TIME_SKIPPING_SERVER';

/**
 * An environment whose time is moved by `env.sleep`. Use a plain `Client` on `env.connection`: the first awaited
 * result of `env.client` can jump years.
 *
 * Without the variable above the SDK downloads the server. Where neither works, tests are skipped with the reason,
 * but in CI that is an error.
 */
export async function startTimeSkipping(): Promise<TestWorkflowEnvironment | { skip: string }> {
  try {
    const path = process.env[TIME_SKIPPING_VARIABLE];
    if (path !== undefined) await access(path, constants.X_OK);
    const env = await TestWorkflowEnvironment.createTimeSkipping(
      path === undefined ? {} : { server: { executable: { type: 'existing-path', path } } },
    );
    // A workflow that sets an attribute which the server does not know hangs there.
    await ensureSearchAttributes(env.connection, env.namespace ?? NAMESPACE);
    return env;
  } catch (error) {
    if (process.env['CI'] === 'true') throw error;
    const reason = error instanceof Error ? error.message : String(error);
    return { skip: `no time-skipping server (${TIME_SKIPPING_VARIABLE} names one): ${reason}` };
  }
}
