/** What can be said before a start, in words that name the key to change; the system's own errors do not. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve } from 'node:path';

import { ServiceError } from '../services/driver.js';
import { listenersOn } from './ports.js';
import { keyOf, type NativeService } from './service.js';

/** @throws ServiceError `missing`, `not-permitted` or `port-taken` */
export async function checkStart(service: NativeService, env: NodeJS.ProcessEnv): Promise<void> {
  await checkFolder(service);
  await checkExecutable(service, env['PATH'] ?? '');
  await checkPort(service);
}

async function checkFolder({ name, cwd }: NativeService): Promise<void> {
  if (cwd === undefined || (await kindOf(cwd)) === 'folder') return;
  throw new ServiceError(
    'missing',
    `There is no folder ${cwd} for ${name} to run in.`,
    `Correct ${keyOf(name, 'cwd')}.`,
  );
}

async function checkExecutable({ name, argv: [program], cwd }: NativeService, path: string): Promise<void> {
  const isPath = program.includes('/');
  const folders = path.split(delimiter).filter(isAbsolute);
  const candidates = isPath ? [resolve(cwd ?? '.', program)] : folders.map((folder) => join(folder, program));
  let forbidden: string | null = null;
  for (const candidate of candidates) {
    if ((await kindOf(candidate)) !== 'file') continue;
    if (await isExecutable(candidate)) return;
    forbidden ??= candidate;
  }
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
    isPath
      ? `There is no program ${candidates[0]} for ${name}.`
      : `There is no program ${program} on the PATH (${path}).`,
    `Install it, or correct ${key}; an absolute path is safest.`,
  );
}

async function checkPort({ name, port }: NativeService): Promise<void> {
  if (port === undefined) return;
  const [listener] = await listenersOn(port);
  if (listener === undefined) return;
  const { pid, command } = listener;
  const whose =
    pid === null ? "another user's process" : `process ${pid} (${command ?? 'its command is not readable'})`;
  throw new ServiceError(
    'port-taken',
    `Port ${port}, which ${name} needs, is taken by ${whose}.`,
    `End that process, or change ${keyOf(name, 'port')} and the service's own port. If it is this service, started by hand, describe it in ${keyOf(name, 'match')}.`,
  );
}

async function kindOf(path: string): Promise<'file' | 'folder' | null> {
  try {
    const found = await stat(path);
    return found.isDirectory() ? 'folder' : found.isFile() ? 'file' : null;
  } catch {
    // Missing, or in a folder that is closed to us: there is nothing to run either way.
    return null;
  }
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
