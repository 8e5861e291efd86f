/** What a value at a key path looks like, for remedies: a line to write, made from the schema. */
import { z } from 'zod';
import { formatPath, type KeyPath } from './keyPath.js';
import { bare, schemaAt } from './schemaWalk.js';
import { traits } from './traits.js';

/** Figures of memory reach far; a small one would say nothing. */
const MEGABYTES = { from: 100_000, example: 8192 };

/** `gpu: { reader: auto }`, or the value alone for an item of a list. */
export function exampleAt(path: KeyPath): string {
  const schema = schemaAt(path);
  const example = schema === null ? 'text' : exampleOf(schema);
  const key = path.at(-1);
  return key === undefined || /^\d+$/.test(key) ? example : `${quoted(key)}: ${example}`;
}

/** A good name that is like the one at the path. */
export function nameExample(path: KeyPath): string {
  const plain = (path.at(-1) ?? '').replace(/[^A-Za-z0-9-]+/g, '-').replace(/^-+|-+$/g, '');
  return plain === '' ? 'my-name' : plain.slice(0, 60);
}

function exampleOf(schema: z.ZodType): string {
  const inner = bare(schema);
  const words = traits.get(inner);
  const shown = words?.expected.match(/for example (.+)$/)?.[1];
  if (shown !== undefined) return shown;
  if (words !== undefined) return words.path === true ? './a/path' : 'a-name';
  if (inner instanceof z.ZodNumber) return numberOf(schema, inner);
  if (inner instanceof z.ZodEnum) return String(inner.options[0]);
  if (inner instanceof z.ZodLiteral) return String([...inner.values][0]);
  if (inner instanceof z.ZodBoolean) return 'true';
  if (inner instanceof z.ZodUnion) return exampleOf(inner.options[0] as z.ZodType);
  if (inner instanceof z.ZodArray) return `[${exampleOf(inner.element as z.ZodType)}]`;
  if (inner instanceof z.ZodRecord) {
    const name = exampleOf(inner.keyType as z.ZodType);
    return `{ ${quoted(name)}: ${exampleOf(inner.valueType as z.ZodType)} }`;
  }
  if (inner instanceof z.ZodObject) {
    const [key, value] = Object.entries(inner.shape)[0] ?? ['key', z.string()];
    return `{ ${key}: ${exampleOf(value as z.ZodType)} }`;
  }
  return 'text';
}

function numberOf(schema: z.ZodType, { maxValue, minValue }: z.ZodNumber): string {
  const fallback = schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined;
  if (typeof fallback === 'number') return String(fallback);
  return String((maxValue ?? 0) > MEGABYTES.from ? MEGABYTES.example : (minValue ?? 0));
}

const quoted = (key: string): string => (/^[\w./:-]+$/.test(key) ? key : formatPath([key]));
