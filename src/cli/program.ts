/** A program that a person wants to run, looked up before anything is taken for it. */
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import type { CliContext } from './context.js';
import { EXIT } from './exitCodes.js';
import { UserError } from './userError.js';

/**
 * Where a shell would find it, with the exit codes that a shell has for it.
 * @throws UserError when there is none (127), or it cannot be run (126)
 */
export function findCommand(name: string, { env, cwd }: Pick<CliContext, 'env' | 'cwd'>): string {
  const folders = (env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const candidates = name.includes('/') ? [resolve(cwd, name)] : folders.map((folder) => join(folder, name));
  const files = candidates.filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true);
  const found = files.find(isExecutable);
  if (found !== undefined) return found;
  const [there = candidates.find((path) => name.includes('/') && statSync(path, { throwIfNoEntry: false }))] = files;
  if (there !== undefined) {
    throw new UserError(`${there} is not executable.`, {
      exitCode: EXIT.notExecutable,
      code: 'not-executable',
      remedy: 'Make it so with chmod +x, or name the program that runs it first, as in: -- python train.py',
    });
  }
  throw new UserError(`The program ${name} is not found${name.includes('/') ? '' : ' on the PATH'}.`, {
    exitCode: EXIT.notFound,
    code: 'not-found',
    remedy: 'Correct its name, or give its whole path after the --. No lease was taken.',
  });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Its message says no more than that.
    return false;
  }
}
