import type { ProcessSight } from '../../processes/proc.js';
import { ServiceError, type ServiceExit } from '../services/driver.js';
import { keyOf } from './service.js';

export function inDoubt(name: string, doubt: string): ServiceError {
  return new ServiceError(
    'failed',
    `Whether ${name} runs is not known: ${doubt}. It is not started a second time.`,
    `Look at it with ps, and end what should not run; where two match, a port in ${keyOf(name, 'ports')} tells them apart.`,
  );
}

export function leftOver(name: string, members: readonly ProcessSight[]): ServiceError {
  const pids = members.map(({ pid }) => pid).join(', ');
  return new ServiceError(
    'failed',
    `Processes of an earlier run of ${name} do not end: ${pids}.`,
    `Look at them with: ps -o pid,stat,wchan,cmd -p ${pids}. Where a driver holds them, only a restart of the machine helps.`,
  );
}

export function endedAtOnce(name: string, exit: ServiceExit | null, output: string): ServiceError {
  return new ServiceError('failed', `${name} ended at once: ${exit?.reason ?? 'how is not known'}.`, `See ${output}.`);
}

export function startError(name: string, error: unknown): ServiceError {
  const { code, message } = error as NodeJS.ErrnoException;
  const kind = code === 'ENOENT' ? 'missing' : code === 'EACCES' || code === 'EPERM' ? 'not-permitted' : 'failed';
  return new ServiceError(kind, `${name} could not be started: ${message}.`, `Check ${keyOf(name, 'argv')}.`, {
    cause: error,
  });
}
