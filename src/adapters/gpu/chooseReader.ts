/** The reader `auto`: nvidia-smi where there is, or should be, an NVIDIA GPU; else none, with the reason. */
import { type Diagnosis, diagnose } from './diagnoseNvidiaSmi.js';
import { createNoGpuReader } from './none.js';
import { createNvidiaSmiReader, type NvidiaSmiOptions } from './nvidiaSmi.js';
import { parseListLine } from './parseNvidiaSmi.js';
import type { GpuReader } from './reader.js';
import { createSmiProcesses } from './smiProcess.js';
import { diagnoseExit, runOnce } from './smiStreams.js';

export interface ReaderChoice {
  reader: GpuReader;
  /** For one warning at start (M17, law 7); null when GPUs were found. */
  warning: string | null;
}

/** What `nvidia-smi -L` showed. */
export interface ListAttempt {
  gpus: number;
  diagnosis: Diagnosis | null;
  hung: boolean;
  exitCode: number | null;
}

export interface ListVerdict {
  use: 'nvidia-smi' | 'none';
  warning: string | null;
}

/**
 * A missing program or a driver that finds no device: this host has no GPU. Any other trouble (a driver that does
 * not match, a lost GPU, a hang) shows that there should be one: its readings are unknown, which is not "no GPU".
 */
export function judgeList(attempt: ListAttempt): ListVerdict {
  const { gpus, diagnosis, hung, exitCode } = attempt;
  if (gpus > 0) return { use: 'nvidia-smi', warning: diagnosis?.problem ?? null };
  if (diagnosis?.kind === 'program-missing' || diagnosis?.kind === 'no-devices')
    return { use: 'none', warning: diagnosis.problem };
  if (hung) return { use: 'nvidia-smi', warning: "'nvidia-smi -L' hangs: the driver may hang. Look at 'dmesg'." };
  if (diagnosis) return { use: 'nvidia-smi', warning: diagnosis.problem };
  if (exitCode === 0) return { use: 'none', warning: "'nvidia-smi -L' lists no GPU. Look at 'lspci' and 'dmesg'." };
  return { use: 'nvidia-smi', warning: `'nvidia-smi -L' fails with exit code ${exitCode}. Try it by hand.` };
}

/** Runs `nvidia-smi -L` once, for at most `hangAfterMs` (default 5000). */
export async function listGpus(options: Pick<NvidiaSmiOptions, 'command' | 'hangAfterMs'>): Promise<ListVerdict> {
  const processes = createSmiProcesses(options.command ?? ['nvidia-smi']);
  let gpus = 0;
  let diagnosis: Diagnosis | null = null;
  const exit = await runOnce(processes, ['-L'], options.hangAfterMs ?? 5_000, (line) => {
    if (parseListLine(line)) gpus += 1;
    else diagnosis ??= diagnose(line);
  });
  diagnosis ??= diagnoseExit(exit);
  return judgeList({ gpus, diagnosis, hung: exit.hung, exitCode: exit.code });
}

export async function chooseReader(options: NvidiaSmiOptions): Promise<ReaderChoice> {
  const { use, warning } = await listGpus(options);
  const reader =
    use === 'none'
      ? createNoGpuReader({ clock: options.clock, reason: warning ?? '' })
      : createNvidiaSmiReader(options);
  return { reader, warning };
}
