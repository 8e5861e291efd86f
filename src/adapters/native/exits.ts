import type { ChildProcess } from 'node:child_process';

import type { ServiceExit } from '../services/driver.js';

/** Of a run whose parent is not this process: the system tells nobody else how it ended. */
export const UNSEEN_EXIT: ServiceExit = {
  code: null,
  signal: null,
  reason: 'ended; how is not known, because this agent did not start it',
};

/** Settles with how a child ended; it never rejects. */
export function exitOf(child: ChildProcess): Promise<ServiceExit> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(toExit(child.exitCode, child.signalCode));
    else child.once('exit', (code, signal) => resolve(toExit(code, signal)));
  });
}

function toExit(code: number | null, signal: string | null): ServiceExit {
  if (signal === null) return { code, signal, reason: `exit code ${code}` };
  // The kernel kills with this signal when memory is short, and tells the parent no more than that.
  const why = signal === 'SIGKILL' ? ': by hand, by vramflow after the grace, or by the kernel for lack of memory' : '';
  return { code, signal, reason: `ended by ${signal}${why}` };
}
