/** What the data folder knows of its Temporal server. */
import { join } from 'node:path';

import { z } from 'zod';

import { identitySchema } from './processProof.js';

export interface ServerFiles {
  record: string;
  database: string;
  log: string;
}

export const serverFiles = (dataFolder: string): ServerFiles => ({
  record: join(dataFolder, 'temporal.json'),
  database: join(dataFolder, 'temporal.db'),
  log: join(dataFolder, 'temporal.log'),
});

export const serverRecordSchema = z.object({
  /** Null: it was ended. The rest stays, for the version of the database. */
  process: identitySchema.nullable(),
  port: z.int(),
  uiPort: z.int(),
  binary: z.string(),
  /** Of the server that last opened the database. */
  server: z.tuple([z.number(), z.number(), z.number()]),
});

export type ServerRecord = z.infer<typeof serverRecordSchema>;
