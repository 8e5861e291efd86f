/**
 * Starts, finds and ends embedder processes. Each is one CLIP on one device; a move is a second process, then the
 * end of the first. They outlive the agent (law 6), so what runs is read from ownership records and proven.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { canBindTo } from '../../contracts/names.js';
import { ageMs } from '../../processes/proc.js';
import { type EndResult, endOwned } from '../processes/ending.js';
import { completeRecord, proveOurs } from '../processes/ownership.js';
import { createRecordStore } from '../processes/records.js';
import { newMarker, spawnOwned } from '../processes/spawn.js';
import { type EmbedderRecord, embedderDetails, filesOf, readyFrom, removeFiles } from './embedderRecord.js';
import { EmbedderError } from './failure.js';
import { startError, waitUntilReady } from './readiness.js';
import { askToEnd, embedOver, readHealth } from './wire.js';

export { EmbedderError, type EmbedderErrorKind } from './failure.js';

/** M10: a device is one of these two, always. */
export type EmbedDevice = 'cpu' | 'cuda';

export interface EmbedderProcess {
  readonly device: EmbedDevice;
  /** The UUID of the GPU that it was started on; null on the CPU. Kept on disk, so that a successor knows it, too. */
  readonly gpu: string | null;
  readonly pid: number;
  /** What really computes: `cuda`, or `cpu` where a second CPU process stands for the GPU. */
  readonly provider: string;
  readonly dimension: number;
  readonly startedMsAgo: number;
  /** Unit-norm embeddings, one for each text. @throws EmbedderError */
  embedText(texts: string[], signal: AbortSignal): Promise<number[][]>;
  /** @param imagesBase64 PNG or JPEG files. @throws EmbedderError */
  embedImages(imagesBase64: string[], signal: AbortSignal): Promise<number[][]>;
  /** Proven ours, and it answers that it is ready. @param waitMs one that computes answers late; default 2 s */
  alive(waitMs?: number): Promise<boolean>;
}

export interface EmbedderLauncher {
  /** Starts a process on a device and waits until it is ready; on abort or failure nothing is left running. */
  start(
    device: EmbedDevice,
    options: { gpu: string | null; signal: AbortSignal; onProgress?: (line: string) => void },
  ): Promise<EmbedderProcess>;
  /**
   * Ends it (request, then TERM, then KILL of its process group, each by proof of ownership) and resolves when the
   * process is gone. Safe to repeat.
   * @param options.graceMs from the request until SIGTERM, for requests in flight
   */
  end(process: EmbedderProcess, options: { signal: AbortSignal; graceMs: number }): Promise<void>;
  /**
   * What runs already, by proof: to adopt after a restart. Records whose process is gone are removed; a process
   * that cannot be proven ours is left alone. One that a dead manager left half started is ended.
   */
  running(): Promise<EmbedderProcess[]>;
}

export interface LauncherOptions {
  /** The program and its first arguments; `embedderCommand()` is the real one. */
  command: string[];
  /** A folder, or a name that the program knows. */
  model: string;
  /** Of this launcher alone: records, sockets and logs of its processes. */
  stateDir: string;
  /** ONNX Runtime's provider for the device `cuda`. */
  gpuProvider: string;
  /** Beside the environment of this process. */
  env?: Record<string, string>;
}

/** From SIGTERM to SIGKILL: the protocol gives a process 2 s to end by itself. */
const TERM_MS = 2_000;
/** The same for a process that was never ready: nobody waits for its answers. */
const TERM_UNREADY_MS = 500;
/** For the answer of a process that is well. */
const ALIVE_MS = 2_000;
/** A start that failed is cleaned up even when the caller has gone; not for ever, though (law 8). */
const DISCARD_MS = 10_000;

/** The command of the real embedder. It runs as compiled code only. */
export const embedderCommand = (): string[] => [
  process.execPath,
  fileURLToPath(new URL('./child/main.js', import.meta.url)),
];

export function createEmbedderLauncher(options: LauncherOptions): EmbedderLauncher {
  const { stateDir, model, gpuProvider } = options;
  const store = createRecordStore(stateDir, embedderDetails);
  /** Being started right now by this launcher: not to be taken for something left over. */
  const starting = new Set<string>();
  const handles = new Map<string, ChildProcess>();

  async function start(...[device, { gpu, signal, onProgress }]: Parameters<EmbedderLauncher['start']>) {
    signal.throwIfAborted();
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const marker = newMarker();
    const files = await filesOf(stateDir, marker);
    const command = [...options.command, '--device', device, '--socket', files.socket, '--model', model];
    if (device === 'cuda')
      command.push('--gpu-provider', gpuProvider, ...(gpu === null || !canBindTo([gpu]) ? [] : ['--gpu', gpu]));
    const details = { ...files, device, gpu: device === 'cuda' ? gpu : null, ready: null };
    const env = { ...process.env, ...options.env };
    starting.add(marker);
    try {
      const { record, handle } = await spawnOwned(store, { marker, command, env, log: files.log, details }).catch(
        async (error: unknown) => {
          await removeFiles(files);
          throw startError(error, device, command);
        },
      );
      handles.set(marker, handle);
      try {
        const health = await waitUntilReady(record, { handle, gpuProvider, signal, onProgress });
        const ready = { ...record, ready: readyFrom(health) };
        await store.write(ready);
        return toProcess(ready);
      } catch (error) {
        await endRecord(record, { ask: false, graceMs: 0, termMs: TERM_UNREADY_MS, signal: discardSignal() });
        throw error;
      }
    } finally {
      starting.delete(marker);
    }
  }

  async function end(...[ended, { signal, graceMs }]: Parameters<EmbedderLauncher['end']>): Promise<void> {
    const record = (await store.list()).find(({ pid }) => pid === ended.pid);
    if (record === undefined) return;
    const result = await endRecord(record, { ask: true, graceMs, termMs: TERM_MS, signal });
    if (result === 'ended' || result === 'not-ours') return;
    const why =
      result === 'stuck' ? 'was killed and is still there' : 'cannot be proven to be ours and was not signalled';
    throw new EmbedderError('timeout', `The embedder process ${ended.pid} ${why}.`, {
      remedy: `Look at process ${ended.pid}; where a driver holds it, only a restart of the machine frees its memory.`,
    });
  }

  async function running(): Promise<EmbedderProcess[]> {
    const found = await Promise.all((await store.list()).map(adopt));
    return found.filter((process) => process !== null);
  }

  async function adopt(record: EmbedderRecord): Promise<EmbedderProcess | null> {
    if (starting.has(record.marker)) return null;
    const proof = await proveOurs(record);
    if (proof === 'unknown') return null;
    const complete = proof === 'ours' ? await withReadiness(record) : null;
    if (complete?.ready != null && complete.pid !== null) return toProcess(complete);
    await endRecord(record, { ask: false, graceMs: 0, termMs: TERM_UNREADY_MS, signal: discardSignal() });
    return null;
  }

  /** Completes the record of a manager that died while it started the process. */
  async function withReadiness(record: EmbedderRecord): Promise<EmbedderRecord | null> {
    if (record.ready !== null) return record;
    const complete = await completeRecord(record);
    if (complete === null) return null;
    const health = await readHealth(complete.socket, AbortSignal.timeout(ALIVE_MS)).catch(() => null);
    if (health?.state !== 'ready') return complete;
    const ready = { ...complete, ready: readyFrom(health) };
    await store.write(ready);
    return ready;
  }

  async function endRecord(
    record: EmbedderRecord,
    how: { ask: boolean; graceMs: number; termMs: number; signal: AbortSignal },
  ): Promise<EndResult> {
    const ask = how.ask ? (signal: AbortSignal) => askToEnd(record.socket, signal) : null;
    const handle = handles.get(record.marker) ?? null;
    const result = await endOwned(record, { ...how, ask, handle });
    // What is not provably over keeps its record: the next look tries again.
    if (result === 'ended' || result === 'not-ours') {
      await removeFiles(record);
      await store.remove(record.marker);
      handles.delete(record.marker);
    }
    return result;
  }

  return { start, end, running };
}

const discardSignal = (): AbortSignal => AbortSignal.timeout(DISCARD_MS);

function toProcess(record: EmbedderRecord): EmbedderProcess {
  const { pid, ready, socket, startTicks, device, gpu } = record;
  if (pid === null || ready === null) throw new TypeError(`The record ${record.marker} is not of a ready process.`);
  const seen = performance.now();
  const ageWhenSeen = startTicks === null ? 0 : ageMs(startTicks);
  return {
    device,
    gpu,
    pid,
    provider: ready.provider,
    dimension: ready.dimension,
    get startedMsAgo() {
      return Math.round(ageWhenSeen + performance.now() - seen);
    },
    embedText: (texts, signal) => embedOver(socket, { path: '/embed/text', field: 'texts' }, texts, signal),
    embedImages: (images, signal) => embedOver(socket, { path: '/embed/image', field: 'images' }, images, signal),
    async alive(waitMs = ALIVE_MS) {
      const proof = await proveOurs(record);
      if (proof === 'gone' || proof === 'not-ours') return false;
      const health = await readHealth(socket, AbortSignal.timeout(waitMs)).catch(() => null);
      return health?.state === 'ready';
    },
  };
}
