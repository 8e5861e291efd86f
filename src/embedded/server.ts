/** vramflow's own Temporal server: one per data folder, a process of its own that outlives whoever starts it. */
import { access } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

import type { Connection } from '@temporalio/client';

import type { Binary } from './binary.js';
import { requireWritable } from './dataFolder.js';
import { lastLines, markerOf, readRecord, startDetached, writeRecord } from './detached.js';
import { EmbeddedServerError } from './errors.js';
import { connectHealthy } from './health.js';
import { withLock } from './lock.js';
import { ensureRetention, ensureSearchAttributes } from './namespace.js';
import { accepts, requireFreePort } from './ports.js';
import { endProcess, findByMarker, lives } from './processProof.js';
import { type ServerRecord, serverFiles, serverRecordSchema } from './record.js';
import { type Ports, serverArguments } from './serverArguments.js';
import { compareVersions, formatVersion } from './version.js';

export interface EmbeddedOptions extends Ports {
  dataFolder: string;
  /** Default `default`. */
  namespace?: string;
  /** Asked only when a server has to be started. */
  findBinary(signal?: AbortSignal): Promise<Binary>;
  progress?: (line: string) => void;
  /** Bound of the wait until it answers, default 60,000. */
  readyMs?: number;
  /** False: the stock settings, to measure against. */
  tuned?: boolean;
  signal?: AbortSignal;
}

export interface RunningServer extends Ports {
  /** host:port of gRPC. */
  address: string;
  /** The Web UI. */
  webUi: string;
  pid: number;
  log: string;
  /** False: it ran already. */
  started: boolean;
}

/** The namespace that every dev server has. */
export const NAMESPACE = 'default';

const PART = 'temporal';
const STOP_GRACE_MS = 10_000;
/** A start that waits for another start waits for its whole wait, and for a build before that. */
const LOCK_MS = 30 * 60_000;

const lockOf = (dataFolder: string) => serverFiles(dataFolder).record;

/**
 * The running server of this data folder, started when there is none. Concurrent callers get the same one.
 * @throws EmbeddedServerError
 */
export async function ensureServer(options: EmbeddedOptions): Promise<RunningServer> {
  const { dataFolder, progress, signal } = options;
  await requireWritable(dataFolder);
  const onWait = () => progress?.('Another start is bringing Temporal up; waiting for it.');
  return withLock(lockOf(dataFolder), { timeoutMs: LOCK_MS, onWait, signal }, async () => {
    return (await join(options)) ?? start(options);
  });
}

/** The server that the record proves to be ours and alive; it need not answer. Null when there is none. */
export async function findRunning(dataFolder: string): Promise<RunningServer | null> {
  const record = await readRecord(serverFiles(dataFolder).record, serverRecordSchema);
  if (record?.process == null || !(await lives(record.process))) return null;
  return describe(record, record.process.pid, dataFolder, false);
}

/**
 * Ends the server of this data folder, by proof. Its database stays.
 * @returns what was ended, or null when none ran
 */
export async function stopServer(options: {
  dataFolder: string;
  signal?: AbortSignal;
}): Promise<{ pid: number } | null> {
  const { dataFolder, signal } = options;
  return withLock(lockOf(dataFolder), { timeoutMs: LOCK_MS, signal }, () => endOwn(dataFolder));
}

/** The one that runs already; null when there is none, or when it was ending as we looked. */
async function join(options: EmbeddedOptions): Promise<RunningServer | null> {
  const running = await findRunning(options.dataFolder);
  if (running === null) return null;
  try {
    await prepare(running, options, async () => {
      return (await findRunning(options.dataFolder))?.pid === running.pid ? null : 'it ended meanwhile';
    });
    return running;
  } catch (error) {
    if (error instanceof EmbeddedServerError && error.kind === 'died') return null;
    throw error;
  }
}

async function start(options: EmbeddedOptions): Promise<RunningServer> {
  const { dataFolder, port, uiPort, progress, signal } = options;
  const files = serverFiles(dataFolder);
  // One without a record: its starter died between the start and the record.
  await endOwn(dataFolder);
  const binary = await options.findBinary(signal);
  const before = await readRecord(files.record, serverRecordSchema);
  await refuseNewerDatabase(files.database, before, binary);
  const yours = `If a Temporal server of yours answers there, use it: VRAMFLOW_TEMPORAL_ADDRESS=127.0.0.1:${port}`;
  await requireFreePort(port, `--set temporal.port=<port> (VRAMFLOW_TEMPORAL_PORT). ${yours}`);
  await requireFreePort(uiPort, '--set temporal.ui_port=<port> (VRAMFLOW_TEMPORAL_UI_PORT)');
  progress?.(`Starting Temporal (server ${formatVersion(binary.server)}) on port ${port}.`);
  const detached = await startDetached({
    command: binary.path,
    args: serverArguments({
      port,
      uiPort,
      database: files.database,
      namespace: options.namespace ?? NAMESPACE,
      ...(options.tuned === false ? { tuned: false } : {}),
    }),
    marker: markerOf(dataFolder, PART),
    logFile: files.log,
    cwd: dataFolder,
  });
  const record: ServerRecord = {
    process: detached.identity,
    port,
    uiPort,
    binary: binary.path,
    server: [...binary.server],
  };
  await writeRecord(files.record, record);
  const server = describe(record, detached.pid, dataFolder, true);
  let ended: string | null = null;
  void detached.exited.then(({ code, signal }) => {
    ended = signal ?? `exit code ${code}`;
  });
  await prepare(server, options, () => Promise.resolve(ended), detached.logOffset);
  return server;
}

/** Why it is no more; null while it lives. */
type Ending = () => Promise<string | null>;

/** Waits until it answers, then sets what the namespace needs. */
async function prepare(server: RunningServer, options: EmbeddedOptions, ending: Ending, logOffset = 0): Promise<void> {
  const connection = await waitReady(server, options, ending, logOffset);
  try {
    const namespace = options.namespace ?? NAMESPACE;
    await ensureRetention(connection, namespace);
    await ensureSearchAttributes(connection, namespace);
  } finally {
    await connection.close();
  }
}

async function waitReady(
  server: RunningServer,
  options: EmbeddedOptions,
  ending: Ending,
  logOffset: number,
): Promise<Connection> {
  const readyMs = options.readyMs ?? 60_000;
  const until = Date.now() + readyMs;
  let reason = 'nothing listens yet';
  let toldAt = Date.now();
  for (;;) {
    options.signal?.throwIfAborted();
    const ended = await ending();
    if (ended !== null) throw await died(server, ended, logOffset);
    if (await accepts(server.port)) {
      const connection = await connectHealthy(
        server.address,
        options.namespace ?? NAMESPACE,
        Math.max(500, Math.min(5_000, until - Date.now())),
      );
      if (!('reason' in connection)) return connection;
      reason = connection.reason;
    }
    if (Date.now() >= until) throw await notReady(server, readyMs, reason);
    if (Date.now() - toldAt >= 5_000) {
      toldAt = Date.now();
      options.progress?.(`  waiting for Temporal: ${Math.round((readyMs - (until - toldAt)) / 1000)} s (${reason})`);
    }
    await delay(50);
  }
}

async function died(server: RunningServer, how: string, logOffset: number): Promise<EmbeddedServerError> {
  const lines = await lastLines(server.log, 12, logOffset);
  const broken = lines.some((line) => /malformed|not a database|no such (table|column)|SQL logic error/i.test(line));
  const remedy = broken
    ? 'The database file seems damaged or of another version. Move temporal.db and its -wal and -shm files away; a new one is made.'
    : `The whole log: ${server.log}`;
  return new EmbeddedServerError(
    'died',
    `The Temporal server (process ${server.pid}) ended before it answered: ${how}. Its last words:\n${lines.map((line) => `  ${line}`).join('\n')}`,
    remedy,
  );
}

async function notReady(server: RunningServer, readyMs: number, reason: string): Promise<EmbeddedServerError> {
  const lines = await lastLines(server.log, 5);
  return new EmbeddedServerError(
    'not-ready',
    `The Temporal server (process ${server.pid}) did not answer at ${server.address} in ${readyMs} ms: ${reason}.${lines.map((line) => `\n  ${line}`).join('')}`,
    `End it with \`vramflow down\` and try again. The whole log: ${server.log}`,
  );
}

async function endOwn(dataFolder: string): Promise<{ pid: number } | null> {
  const file = serverFiles(dataFolder).record;
  const record = await readRecord(file, serverRecordSchema);
  const recorded = record?.process != null && (await lives(record.process)) ? [record.process] : [];
  const found = recorded.length > 0 ? recorded : await findByMarker(markerOf(dataFolder, PART));
  for (const identity of found) await endProcess(identity, STOP_GRACE_MS);
  if (record !== null) await writeRecord(file, { ...record, process: null });
  const [first] = found;
  return first === undefined ? null : { pid: first.pid };
}

async function refuseNewerDatabase(database: string, before: ServerRecord | null, binary: Binary): Promise<void> {
  if (before === null || compareVersions(binary.server, before.server) >= 0) return;
  try {
    await access(database);
  } catch {
    // It was taken away: the new one is made by this version.
    return;
  }
  throw new EmbeddedServerError(
    'database-newer',
    `${database} was last used by Temporal server ${formatVersion(before.server)}; ${binary.path} contains ${formatVersion(binary.server)}.`,
    `Use the newer program (it was ${before.binary}) with --set temporal.binary=<path>, or move the database away to begin anew.`,
  );
}

function describe(record: ServerRecord, pid: number, dataFolder: string, started: boolean): RunningServer {
  const { port, uiPort } = record;
  return {
    port,
    uiPort,
    pid,
    started,
    address: `127.0.0.1:${port}`,
    webUi: `http://127.0.0.1:${uiPort}`,
    log: serverFiles(dataFolder).log,
  };
}
