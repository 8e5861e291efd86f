/** What Docker says of a container, in the words of the port. */
import { constants } from 'node:os';

import type { ContainerInspectInfo } from 'dockerode';

import type { ServiceExit } from '../services/driver.js';

/** A shell's way to tell in an exit code which signal ended a process; Docker keeps to it. */
const SIGNAL_BASE = 128;

/** Docker's way to say "never". */
export const NEVER = '0001-01-01T00:00:00Z';

type State = ContainerInspectInfo['State'];

/** One that Docker is about to restart by itself runs nothing at the moment. */
export function isRunning({ Running, Restarting }: State): boolean {
  return Running && !Restarting;
}

/** Names one run: the container keeps its id over runs, and its time of start tells them apart. */
export function runOf({ Id, State }: Pick<ContainerInspectInfo, 'Id' | 'State'>): string {
  return `${Id.slice(0, 12)}@${State.StartedAt}`;
}

export function healthOf({ Health }: State): 'starting' | 'healthy' | 'unhealthy' | null {
  const status = Health?.Status;
  return status === 'starting' || status === 'healthy' || status === 'unhealthy' ? status : null;
}

/** How the last run of a container that does not run ended; null when it never ran. */
export function exitOf({ ExitCode, OOMKilled, Error: error, StartedAt }: State): ServiceExit | null {
  if (StartedAt === NEVER && error === '') return null;
  if (StartedAt === NEVER) return { code: null, signal: null, reason: `it could not be started: ${error}` };
  return exitWith(ExitCode, OOMKilled, error);
}

/** Of an exit code alone, as an event tells it. */
export function exitWith(code: number, outOfMemory = false, error = ''): ServiceExit {
  const signal = signalOf(code);
  const ending = signal === null ? `exit code ${code}` : `ended by ${signal}`;
  const reason = outOfMemory ? 'killed by the kernel: out of memory' : error === '' ? ending : `${ending}: ${error}`;
  return { code: signal === null ? code : null, signal, reason };
}

function signalOf(code: number): string | null {
  const number = code - SIGNAL_BASE;
  return Object.entries(constants.signals).find(([, known]) => known === number)?.[0] ?? null;
}
