/**
 * One pair of long-lived nvidia-smi processes with one period: a line per GPU and tick, and beside it a line per
 * compute process and tick. A pair is started, handed over from and ended as a whole.
 */
import { type Diagnosis, diagnose } from './diagnoseNvidiaSmi.js';
import {
  type GpuLine,
  gpuQuery,
  PROCESS_QUERY,
  type ProcessLine,
  parseGpuLine,
  parseProcessLine,
} from './parseNvidiaSmi.js';
import type { SmiExit, SmiProcess, SmiProcesses } from './smiProcess.js';

const FORMAT = '--format=csv,noheader,nounits';

export interface SmiStreams {
  readonly periodMs: number;
  end(): void;
}

export interface StreamEvents {
  onGpuLine(line: Exclude<GpuLine, { kind: 'blank' }>): void;
  onProcessLine(line: Exclude<ProcessLine, { kind: 'blank' }>): void;
  /** Once, when the GPU stream hangs or ends by itself. Both processes are ended then. */
  onFailed(failure: { problem: string; diagnosis: Diagnosis | null }): void;
  /** Once, when the process stream ends by itself. */
  onProcessesFailed(problem: string): void;
}

export interface StreamOptions {
  periodMs: number;
  /** Silence of the GPU stream for so long beyond its period is a hang, ms. */
  hangAfterMs: number;
  withMig: boolean;
}

export function startSmiStreams(processes: SmiProcesses, options: StreamOptions, events: StreamEvents): SmiStreams {
  const { periodMs, hangAfterMs, withMig } = options;
  let ended = false;
  let diagnosis: Diagnosis | null = null;
  let lastWords = '';
  let watchdog: NodeJS.Timeout | undefined;

  const stop = (how: (smi: SmiProcess) => void): void => {
    ended = true;
    clearTimeout(watchdog);
    how(gpus);
    how(apps);
  };
  const fail = (problem: string, how: (smi: SmiProcess) => void): void => {
    if (ended) return;
    stop(how);
    events.onFailed({ problem: diagnosis?.problem ?? problem, diagnosis });
  };
  const watch = (): void => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => {
      const words = `nvidia-smi has shown no GPU for ${periodMs + hangAfterMs} ms: the driver may hang. Look at 'dmesg'; a reboot may be needed.`;
      fail(words, (smi) => smi.kill());
    }, periodMs + hangAfterMs);
  };

  const every = ['-lms', String(periodMs)];
  const gpus = processes.start([gpuQuery(withMig), FORMAT, ...every], {
    lasting: true,
    onLine(text) {
      if (ended) return;
      const line = parseGpuLine(text, withMig);
      if (line.kind === 'blank') return;
      if (line.kind === 'gpu' || (line.kind === 'odd' && line.uuid !== null)) watch();
      lastWords = text;
      if (line.kind === 'message') diagnosis ??= line.diagnosis;
      if (line.kind === 'gpu') diagnosis = null;
      events.onGpuLine(line);
    },
  });
  const apps = processes.start([PROCESS_QUERY, FORMAT, ...every], {
    lasting: true,
    onLine(text) {
      const line = parseProcessLine(text);
      if (!ended && line.kind !== 'blank') events.onProcessLine(line);
    },
  });
  watch();
  void gpus.exited.then((exit) => {
    diagnosis ??= diagnoseExit(exit);
    fail(`nvidia-smi ended ${wordsOf(exit, lastWords)}. It is started again.`, (smi) => smi.end());
  });
  void apps.exited.then((exit) => {
    if (!ended) events.onProcessesFailed(`The list of GPU processes ended ${wordsOf(exit, '')}. It is started again.`);
  });
  return { periodMs, end: () => stop((smi) => smi.end()) };
}

/** Asks once for the processes: an end without a line proves that there are none. */
export async function queryProcesses(
  processes: SmiProcesses,
  hangAfterMs: number,
): Promise<{ proven: boolean; lines: ProcessLine[] }> {
  const lines: ProcessLine[] = [];
  const exit = await runOnce(processes, [PROCESS_QUERY, FORMAT], hangAfterMs, (text) => {
    const line = parseProcessLine(text);
    if (line.kind !== 'blank') lines.push(line);
  });
  return { proven: exit.code === 0, lines };
}

/** Runs nvidia-smi once; kills it when it takes longer than `hangAfterMs`. */
export async function runOnce(
  processes: SmiProcesses,
  args: string[],
  hangAfterMs: number,
  onLine: (line: string) => void,
): Promise<SmiExit & { hung: boolean }> {
  let hung = false;
  const smi = processes.start(args, { lasting: false, onLine });
  return new Promise((resolve) => {
    // An answer comes in any case: a process that cannot be killed is not waited for.
    const timer = setTimeout(() => {
      hung = true;
      smi.kill();
      resolve({ code: null, startError: null, hung });
    }, hangAfterMs);
    void smi.exited.then((exit) => {
      clearTimeout(timer);
      resolve({ ...exit, hung });
    });
  });
}

/** What the end of a process tells by itself; null for most ends. 127 is how a wrapper says "not found". */
export function diagnoseExit({ code, startError }: SmiExit): Diagnosis | null {
  return diagnose(startError ?? (code === 127 ? 'command not found' : ''));
}

function wordsOf(exit: SmiExit, lastWords: string): string {
  if (exit.startError !== null) return `at its start (${exit.startError})`;
  return `with exit code ${exit.code}${lastWords ? ` after "${lastWords.trim().slice(0, 120)}"` : ''}`;
}
