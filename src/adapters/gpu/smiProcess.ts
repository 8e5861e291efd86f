/** Starts nvidia-smi and ends it. A hung one may be unkillable, so there is never more than one such at a time. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** How long a process may take to go after it was asked to. */
const END_MS = 2_000;
/** How long the output of a process that has gone may still come. */
const DRAIN_MS = 500;

export interface SmiExit {
  code: number | null;
  /** Why it could not be started, as the system says it. */
  startError: string | null;
}

export interface SmiProcess {
  /** Settles when the process is reaped and its output is read. */
  readonly exited: Promise<SmiExit>;
  /** Asks it to go, and kills it if it does not. */
  end(): void;
  /** SIGKILL, once: for a process that hangs. */
  kill(): void;
}

export interface SmiProcesses {
  start(args: string[], options: { lasting: boolean; onLine: (line: string) => void }): SmiProcess;
  /** True while a killed process has not gone: nothing more may be started. */
  stuck(): boolean;
  /** Ends all and waits for it, at most a few seconds. */
  endAll(): Promise<void>;
}

/**
 * A stream outlives an agent that is killed: it notices only when it prints, and the one for the processes may
 * never print. Where util-linux has `setpriv`, the kernel ends it with its parent.
 */
const SETPRIV = '/usr/bin/setpriv';
const dyingWithParent = (): string[] =>
  process.platform === 'linux' && existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'TERM', '--'] : [];

export function createSmiProcesses(command: string[]): SmiProcesses {
  const running = new Set<SmiProcess>();
  const killed = new Set<SmiProcess>();

  return {
    start(args, { lasting, onLine }) {
      const [program = 'nvidia-smi', ...rest] = [...(lasting ? dyingWithParent() : []), ...command, ...args];
      const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], windowsHide: true });
      const smi: SmiProcess = {
        exited: exitOf(child),
        end() {
          child.kill('SIGTERM');
          const timer = setTimeout(() => smi.kill(), END_MS);
          void smi.exited.then(() => clearTimeout(timer));
        },
        kill() {
          if (killed.has(smi) || !running.has(smi)) return;
          killed.add(smi);
          child.kill('SIGKILL');
        },
      };
      running.add(smi);
      void smi.exited.then(() => {
        running.delete(smi);
        killed.delete(smi);
      });
      for (const output of [child.stdout, child.stderr]) createInterface({ input: output }).on('line', onLine);
      return smi;
    },
    stuck: () => killed.size > 0,
    async endAll() {
      const all = [...running];
      for (const smi of all) smi.end();
      // A process that even SIGKILL does not end is left to the kernel.
      let timer: NodeJS.Timeout | undefined;
      const bound = new Promise((resolve) => {
        timer = setTimeout(resolve, END_MS + 1_000);
      });
      await Promise.race([Promise.all(all.map(({ exited }) => exited)), bound]);
      clearTimeout(timer);
    },
  };
}

function exitOf(child: ChildProcessByStdio<null, Readable, Readable>): Promise<SmiExit> {
  return new Promise((resolve) => {
    child.once('error', (error) => {
      if (child.pid === undefined) resolve({ code: null, startError: error.message });
    });
    child.once('close', (code) => resolve({ code, startError: null }));
    // A wrapper's child may keep the pipe open after the wrapper has gone.
    child.once('exit', (code) => setTimeout(() => resolve({ code, startError: null }), DRAIN_MS));
  });
}
