/** What can be said before a start, in words that name the key to change; the system's own errors do not. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';

import { ServiceError } from '../services/driver.js';
import { type Listener, listenersOn } from './ports.js';
import { findProgram } from './program.js';
import { keyOf, type NativeService } from './service.js';

/** @throws ServiceError `missing`, `not-permitted` or `port-taken` */
export async function checkStart(service: NativeService, env: NodeJS.ProcessEnv): Promise<void> {
  await checkFolder(service);
  await checkExecutable(service, env['PATH'] ?? '');
  await checkPorts(service);
}

async function checkFolder({ name, cwd }: NativeService): Promise<void> {
  const isFolder =
    cwd === undefined ||
    (await stat(cwd).then(
      (found) => found.isDirectory(),
      () => false,
    ));
  if (isFolder) return;
  throw new ServiceError(
    'missing',
    `There is no folder ${cwd} for ${name} to run in.`,
    `Correct ${keyOf(name, 'cwd')}.`,
  );
}

async function checkExecutable({ name, argv: [program], cwd }: NativeService, path: string): Promise<void> {
  const { file, forbidden } = await findProgram(program, path, cwd);
  if (file !== null) return;
  const key = keyOf(name, 'argv');
  if (forbidden !== null) {
    throw new ServiceError(
      'not-permitted',
      `${forbidden} of ${name} is not executable for this user.`,
      `Make it executable (chmod +x ${forbidden}), or name another program in ${key}.`,
    );
  }
  throw new ServiceError(
    'missing',
    program.includes('/')
      ? `There is no program ${resolve(cwd ?? '.', program)} for ${name}.`
      : `There is no program ${program} on the PATH (${path}).`,
    `Install it, or correct ${key}; an absolute path is safest.`,
  );
}

async function checkPorts({ name, ports = [] }: NativeService): Promise<void> {
  const looked = await Promise.all(ports.map(async (port) => ({ port, listeners: await listenersOn(port) })));
  const taken = looked.flatMap(({ port, listeners: [listener] }) => (listener ? [{ port, listener }] : []));
  if (taken.length === 0) return;
  const said = taken.map(({ port, listener }) => `Port ${port}, which ${name} needs, is taken by ${whose(listener)}.`);
  const [it, another] = taken.length === 1 ? ['that process', 'another port'] : ['those processes', 'other ports'];
  throw new ServiceError(
    'port-taken',
    said.join(' '),
    `End ${it}, or give the service ${another}, in ${keyOf(name, 'ports')}, too. If it is this service, started by hand, describe it in ${keyOf(name, 'match')}.`,
  );
}

const whose = ({ pid, command }: Listener): string =>
  pid === null ? "another user's process" : `process ${pid} (${command ?? 'its command is not readable'})`;
