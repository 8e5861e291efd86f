import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

/** A real part that a test needs and that this machine lacks, with the reason and what to do. */
export interface Missing {
  skip: string;
}

/**
 * On CI every part must be there, so a missing one throws; on a user's machine the caller skips its tests with
 * `context.skip(found.skip)`, which shows the reason.
 */
export function requirePart<T extends object>(name: string, found: T | Missing): T | Missing {
  if ('skip' in found && process.env['CI'] === 'true') {
    throw new Error(`${name} is missing, and on CI nothing may be skipped: ${found.skip}`);
  }
  return found;
}

/** The first executable file of this name on the PATH, or null. */
export async function onPath(name: string): Promise<string | null> {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue;
    const path = join(folder, name);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      continue; // Not in this folder.
    }
  }
  return null;
}
