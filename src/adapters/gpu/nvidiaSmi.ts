/**
 * Reads NVIDIA GPUs through two long-lived nvidia-smi processes, never one process per poll. A stream that ends
 * is started again with back-off; one that hangs is killed once, and nothing is started while it has not gone.
 */
import { isThere, parentName, readArgv } from '../../processes/proc.js';
import type { Diagnosis } from './diagnoseNvidiaSmi.js';
import { createGpuBlocks, type GpuBlocks } from './gpuBlocks.js';
import { createKnownGpus } from './knownGpus.js';
import { type GpuLine, type GpuRow, type ListedGpu, type ProcessLine, parseListLine } from './parseNvidiaSmi.js';
import { createProcessTable } from './processTable.js';
import type { GpuReader, GpuSample } from './reader.js';
import { createSmiProcesses } from './smiProcess.js';
import { queryProcesses, runOnce, type SmiStreams, startSmiStreams } from './smiStreams.js';

export interface NvidiaSmiOptions {
  /** Program and first arguments; default `nvidia-smi` from the PATH. */
  command?: string[];
  /** Monotonic, ms. */
  clock: { now(): number };
  /** Silence for so long beyond the period is a hang, ms; default 5000. */
  hangAfterMs?: number;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
/** A pair of streams that lived so long was sound: the back-off begins anew. */
const SOUND_MS = 10_000;
/** Samples of a new pair before the old one may go. */
const HANDOVER_SAMPLES = 3;
/** Tolerance for a late line of a process, ms. */
const JITTER_MS = 100;
const PROOF_PAUSE_MS = 1_000;
/** So many queries that show processes which the stream does not: the stream is broken. */
const STRIKES = 3;

/** A pair of streams and what is known of it. */
interface Pair {
  streams: SmiStreams;
  blocks: GpuBlocks<GpuRow>;
  startedAt: number;
  samples: number;
  lastSampleAt: number;
  listsProcesses: boolean;
  processesAlive: boolean;
}

export function createNvidiaSmiReader({
  command = ['nvidia-smi'],
  clock,
  hangAfterMs = 5_000,
}: NvidiaSmiOptions): GpuReader {
  const processes = createSmiProcesses(command);
  const known = createKnownGpus();
  const table = createProcessTable(isThere, { parentOf: parentName, argvOf: readArgv });
  let emit: (sample: GpuSample) => void = () => {};
  let state: 'new' | 'running' | 'stopped' = 'new';
  let periodMs = 1_000;
  let withMig = true;
  let current: Pair | null = null;
  let next: Pair | null = null;
  let retryMs = FIRST_RETRY_MS;
  let retryTimer: NodeJS.Timeout | undefined;
  let downTimer: NodeJS.Timeout | undefined;
  let failure = '';
  let oddity: string | null = null;
  let processesProblem: string | null = null;
  let strikes = 0;
  let proofAt = Number.NEGATIVE_INFINITY;

  /** Two ticks of the slower of the pairs, as they really come. */
  const windowMs = (pair: Pair, now: number): number => {
    const tick = Math.max(pair.samples > 0 ? now - pair.lastSampleAt : 0, periodMs, current?.streams.periodMs ?? 0);
    return 2 * tick + JITTER_MS;
  };

  const onBlock = (pair: Pair, block: GpuRow[]): void => {
    const now = clock.now();
    const window = windowMs(pair, now);
    const list = current?.processesAlive ? table.list(now, window) : null;
    pair.samples += 1;
    pair.lastSampleAt = now;
    if (now - pair.startedAt > SOUND_MS) retryMs = FIRST_RETRY_MS;
    emit({
      takenAt: now,
      gpus: known.complete(
        block,
        'nvidia-smi no longer shows this GPU. Was it removed, or has its driver been unbound?',
      ),
      processes: list,
      problem: oddity ?? (list === null ? processesProblem : null),
    });
    oddity = null;
    if (pair === next) handOver(pair, now, list?.length === 0);
    if (table.needsProof(now, window) && now - proofAt > PROOF_PAUSE_MS) void proveSilence(now);
  };

  /** The new pair takes over once it gives all that the old one gives. */
  const handOver = (pair: Pair, now: number, nothingToList: boolean): void => {
    if (pair.samples < HANDOVER_SAMPLES) return;
    const late = now - pair.startedAt > hangAfterMs;
    if (!pair.listsProcesses && !nothingToList && !late) return;
    if (late) table.forget();
    current?.streams.end();
    current = pair;
    next = null;
    // Its list has ended meanwhile: a pair without one is no lasting one.
    if (!pair.processesAlive) retryLater();
  };

  const proveSilence = async (askedAt: number): Promise<void> => {
    if (processes.stuck()) return;
    proofAt = Number.POSITIVE_INFINITY;
    const { proven, lines } = await queryProcesses(processes, hangAfterMs);
    proofAt = clock.now();
    if (state === 'stopped') return;
    for (const line of lines) takeProcess(line);
    if (lines.some(({ kind }) => kind === 'process')) strikes += 1;
    if (proven && lines.length === 0) table.proveEmpty(askedAt);
    else if (!proven) processesProblem ??= 'nvidia-smi does not list the GPU processes. Try it by hand.';
    if (strikes >= STRIKES)
      loseProcesses('The stream of GPU processes is silent though some run. It is started again.');
  };

  const takeProcess = (line: ProcessLine): void => {
    if (line.kind === 'process') {
      table.see(line.process, clock.now());
      processesProblem = null;
    } else if (line.kind !== 'blank') {
      table.odd(clock.now());
      processesProblem = line.kind === 'message' ? line.diagnosis.problem : line.problem;
    }
  };

  const loseProcesses = (problem: string): void => {
    strikes = 0;
    table.forget();
    processesProblem = problem;
    if (current) current.processesAlive = false;
    retryLater();
  };

  const takeGpu = (pair: Pair, line: Exclude<GpuLine, { kind: 'blank' }>): void => {
    if (line.kind === 'message') {
      const isOne = line.diagnosis.kind === 'gpu-lost' && known.lose(line.diagnosis);
      if (!isOne) oddity = line.diagnosis.problem;
      return;
    }
    if (line.kind === 'odd') oddity = line.problem;
    const row = line.kind === 'gpu' ? line.row : line.uuid === null ? null : known.unreadable(line.uuid, line.problem);
    if (row) for (const block of pair.blocks.add(row)) onBlock(pair, block);
  };

  const onFailed = (pair: Pair, problem: string, diagnosis: Diagnosis | null): void => {
    if (pair === next) next = null;
    if (pair === current) {
      current = next;
      next = null;
      table.forget();
    }
    if (diagnosis?.kind === 'unknown-field' && withMig) {
      withMig = false;
      launchIfDue();
      return;
    }
    if (current === null) goDown(problem);
    retryLater();
  };

  const launchIfDue = (): void => {
    if (state !== 'running' || next !== null) return;
    if (current?.streams.periodMs === periodMs && current.processesAlive) return;
    if (processes.stuck()) {
      failure = 'nvidia-smi hangs and cannot be killed, so no other is started. The driver hangs: reboot.';
      retryLater();
      return;
    }
    const pair: Pair = {
      streams: startSmiStreams(
        processes,
        { periodMs, hangAfterMs, withMig },
        {
          onGpuLine: (line) => takeGpu(pair, line),
          onProcessLine: (line) => {
            strikes = 0;
            pair.listsProcesses = true;
            takeProcess(line);
          },
          onFailed: ({ problem, diagnosis }) => onFailed(pair, problem, diagnosis),
          onProcessesFailed: (problem) => {
            pair.processesAlive = false;
            if (pair === current) loseProcesses(problem);
          },
        },
      ),
      blocks: createGpuBlocks<GpuRow>(known.uuids()),
      startedAt: clock.now(),
      samples: 0,
      lastSampleAt: 0,
      listsProcesses: false,
      processesAlive: true,
    };
    if (current === null) current = pair;
    else next = pair;
  };

  const retryLater = (): void => {
    if (state !== 'running' || retryTimer !== undefined) return;
    retryTimer = setTimeout(() => {
      retryTimer = undefined;
      launchIfDue();
    }, retryMs);
    retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
  };

  /** While nothing is read, samples go on: they say that nothing is known. */
  const goDown = (problem: string): void => {
    failure = problem;
    clearTimeout(downTimer);
    const say = (): void => {
      if (state === 'stopped' || (current !== null && current.samples > 0)) return;
      emit({ takenAt: clock.now(), gpus: known.complete([], failure), processes: null, problem: failure });
      downTimer = setTimeout(say, periodMs);
    };
    say();
  };

  return {
    kind: 'nvidia-smi',
    async start(onSample) {
      state = 'running';
      const first = new Promise<void>((resolve) => {
        emit = (sample) => {
          if (state === 'stopped') return;
          onSample(sample);
          resolve();
        };
      });
      const listed: ListedGpu[] = [];
      await runOnce(processes, ['-L'], hangAfterMs, (text) => {
        const gpu = parseListLine(text);
        if (gpu) listed.push(gpu);
      });
      known.list(listed);
      launchIfDue();
      if (current === null) goDown(failure);
      await first;
    },
    setPeriod(ms) {
      if (ms === periodMs) return;
      periodMs = ms;
      next?.streams.end();
      next = null;
      launchIfDue();
    },
    async stop() {
      state = 'stopped';
      clearTimeout(retryTimer);
      clearTimeout(downTimer);
      current?.streams.end();
      next?.streams.end();
      await processes.endAll();
    },
  };
}
