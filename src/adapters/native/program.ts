/** Finds the file of a program as the system does it: by its path, or on the PATH. */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { delimiter, isAbsolute, join, resolve } from 'node:path';

export interface FoundProgram {
  /** The first file of this name that may be executed; null when there is none. */
  file: string | null;
  /** A file of this name that may not be executed; null when there is none, or when `file` is there. */
  forbidden: string | null;
}

/** @param cwd where a relative path begins; by default the folder of this process */
export async function findProgram(program: string, path: string, cwd = '.'): Promise<FoundProgram> {
  const folders = path.split(delimiter).filter(isAbsolute);
  const candidates = program.includes('/') ? [resolve(cwd, program)] : folders.map((folder) => join(folder, program));
  let forbidden: string | null = null;
  for (const candidate of candidates) {
    if (!(await isFile(candidate))) continue;
    if (await isExecutable(candidate)) return { file: candidate, forbidden: null };
    forbidden ??= candidate;
  }
  return { file: null, forbidden };
}

/** Missing, or in a folder that is closed to us: there is nothing to run either way. */
function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
