/** The folder of everything that must survive: database, records, logs. */
import { access, constants, mkdir } from 'node:fs/promises';

import { EmbeddedServerError } from './errors.js';

/**
 * Makes the folder where it is missing, for this user alone.
 * @throws EmbeddedServerError `data-folder` when it cannot be written
 */
export async function requireWritable(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new EmbeddedServerError(
      'data-folder',
      `The data folder ${folder} cannot be written: ${why}.`,
      'Give your user the right to write there, or name another folder: VRAMFLOW_DATA_DIR=<folder>',
      { cause: error },
    );
  }
}
