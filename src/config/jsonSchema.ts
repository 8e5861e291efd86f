/** The schema for editors: `vramflow.schema.json`, which is shipped and which `vramflow config schema` prints. */
import { z } from 'zod';
import { fileSchema } from './schema.js';

/** Draft 7: what the YAML language server understands best. */
export function jsonSchemaText(): string {
  const schema = z.toJSONSchema(fileSchema, { target: 'draft-07', io: 'input' });
  return `${JSON.stringify(schema, null, 2)}\n`;
}
