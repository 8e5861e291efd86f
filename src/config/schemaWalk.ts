/** Questions to the schema: what is at a key path, which keys are known there, what a value must be, in words. */
import { z } from 'zod';
import type { KeyPath } from './keyPath.js';
import { fileSchema } from './schema.js';
import { traits } from './traits.js';

/** Takes defaults and options off. */
export function bare(schema: z.ZodType): z.ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional) {
    return bare(schema.unwrap() as z.ZodType);
  }
  return schema;
}

function child(schema: z.ZodType, key: string): z.ZodType | null {
  if (schema instanceof z.ZodObject) return Object.hasOwn(schema.shape, key) ? (schema.shape[key] as z.ZodType) : null;
  if (schema instanceof z.ZodRecord) return schema.valueType as z.ZodType;
  if (schema instanceof z.ZodArray) return /^\d+$/.test(key) ? (schema.element as z.ZodType) : null;
  if (schema instanceof z.ZodUnion)
    return (
      optionsOf(schema)
        .map((option) => child(option, key))
        .find(Boolean) ?? null
    );
  return null;
}

const optionsOf = (union: z.ZodUnion): z.ZodType[] => union.options.map((option) => bare(option as z.ZodType));

/** The schema at a path with its default; null where the path leads nowhere. */
export function schemaAt(path: KeyPath): z.ZodType | null {
  let here: z.ZodType | null = fileSchema;
  for (const key of path) here = here && child(bare(here), key);
  return here;
}

/** A map: an object with known keys, or a map by name. */
export function isSection(path: KeyPath): boolean {
  const schema = schemaAt(path);
  if (!schema) return false;
  const inner = bare(schema);
  return inner instanceof z.ZodObject || inner instanceof z.ZodRecord;
}

/** A text or one word of several, which a flag or variable gives as it is; all else it writes as YAML. */
export function isText(path: KeyPath): boolean {
  const schema = schemaAt(path);
  if (!schema) return true;
  const inner = bare(schema);
  return inner instanceof z.ZodString || inner instanceof z.ZodEnum;
}

export function isFilePath(path: KeyPath): boolean {
  const schema = schemaAt(path);
  return schema !== null && traits.get(bare(schema))?.path === true;
}

/** A map whose keys are paths. */
export function namesFilePaths(path: KeyPath): boolean {
  const schema = schemaAt(path);
  const inner = schema && bare(schema);
  return inner instanceof z.ZodRecord && traits.get(inner.keyType as z.ZodType)?.path === true;
}

/** The keys that the section at a path knows; none for a map by name. */
export function knownKeys(path: KeyPath): string[] {
  const schema = schemaAt(path);
  const inner = schema && bare(schema);
  const shapes = inner instanceof z.ZodUnion ? optionsOf(inner) : [inner];
  return shapes.flatMap((shape) => (shape instanceof z.ZodObject ? Object.keys(shape.shape) : []));
}

/** The paths of all single values outside maps by name: those that a variable can set. */
export function settablePaths(path: KeyPath = []): KeyPath[] {
  return knownKeys(path).flatMap((key) => {
    const below = [...path, key];
    return isSection(below) ? settablePaths(below) : [below];
  });
}

/** The default at a path; undefined where there is none. */
export function defaultAt(path: KeyPath): unknown {
  const schema = schemaAt(path);
  return schema instanceof z.ZodDefault ? schema.def.defaultValue : undefined;
}

/** The least number at a path; undefined where something else belongs. */
export function leastAt(path: KeyPath): number | undefined {
  const schema = schemaAt(path);
  const inner = schema && bare(schema);
  return inner instanceof z.ZodNumber ? (inner.minValue ?? undefined) : undefined;
}

/** False for what must be written, and for an item of a list. */
export function mayBeLeftOut(path: KeyPath): boolean {
  const schema = schemaAt(path);
  return schema !== null && schema !== bare(schema);
}

/** Continues `must be …`: `a whole number from 0 to 20`, `one of auto, nvidia-smi, none`. */
export function expectedAt(path: KeyPath): string {
  const schema = schemaAt(path);
  return schema ? expected(bare(schema)) : 'left out';
}

/** Continues `must be …` for the names in a map. */
export function expectedNameIn(path: KeyPath): string {
  const schema = schemaAt(path);
  const inner = schema && bare(schema);
  return inner instanceof z.ZodRecord ? expected(bare(inner.keyType as z.ZodType)) : 'a known key';
}

function expected(schema: z.ZodType): string {
  const words = traits.get(schema)?.expected;
  if (words !== undefined) return words;
  if (schema instanceof z.ZodNumber) {
    return `a ${schema.isInt ? 'whole ' : ''}number from ${schema.minValue} to ${schema.maxValue}`;
  }
  if (schema instanceof z.ZodEnum) return `one of ${schema.options.join(', ')}`;
  if (schema instanceof z.ZodLiteral) return [...schema.values].join(' or ');
  if (schema instanceof z.ZodUnion) return optionsOf(schema).map(expected).join(', or ');
  if (schema instanceof z.ZodBoolean) return 'true or false';
  if (schema instanceof z.ZodObject)
    return `a map with keys such as ${Object.keys(schema.shape).slice(0, 3).join(', ')}`;
  if (schema instanceof z.ZodRecord) return 'a map';
  return 'a text';
}
