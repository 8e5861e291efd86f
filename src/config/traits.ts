/** What a schema cannot say of itself: what a good value looks like in words, and whether it is a path. */
import { z } from 'zod';

interface Traits {
  /** Continues the sentence `must be …`. */
  expected: string;
  /** A path: relative ones are relative to the file that names them. */
  path?: boolean;
}

export const traits = z.registry<Traits>();

/** Gives a schema its words. To be called before `.default` or `.optional`, which make a new schema. */
export function text<S extends z.ZodType>(schema: S, expected: string, more: { path?: boolean } = {}): S {
  traits.add(schema, { expected, ...more });
  return schema;
}
