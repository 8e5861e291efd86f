/** Merged values → settings, or the problems of form: unknown keys, wrong types, values out of range. */
import type { z } from 'zod';
import type { KeyPath } from './keyPath.js';
import { formatPath } from './keyPath.js';
import { isTree, type Layer, originNear, type Value } from './layer.js';
import { nearest } from './nearest.js';
import { type Problem, problemAt } from './problem.js';
import { fileSchema, type Settings } from './schema.js';
import { defaultAt, expectedAt, expectedNameIn, knownKeys, settablePaths } from './schemaWalk.js';

export function validate(merged: Layer): { settings: Settings } | { problems: Problem[] } {
  const result = fileSchema.safeParse(merged.tree);
  if (result.success) return { settings: result.data };
  return { problems: result.error.issues.flatMap((issue) => problemsOf(issue, merged)) };
}

function problemsOf(issue: z.core.$ZodIssue, merged: Layer): Problem[] {
  const path = issue.path.map(String);
  const report = (at: KeyPath, message: string, remedy: string): Problem =>
    problemAt(originNear(merged, at) ?? { from: 'default' }, at, message, remedy);

  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => report([...path, key], 'is not a known key.', remedyForUnknown(path, key)));
  }
  if (issue.code === 'invalid_key') {
    const rule = expectedNameIn(path.slice(0, -1));
    return [report(path, `is not a good name: it must be ${rule}.`, 'Change the name.')];
  }
  const value = valueAt(merged.tree, path);
  return [report(path, `must be ${expectedAt(path)}, but is ${shown(value)}.`, remedyForValue(path, value))];
}

function remedyForUnknown(section: KeyPath, key: string): string {
  const known = knownKeys(section);
  const near = nearest(key, known);
  if (near) return `Did you mean ${near}?`;
  const elsewhere = settablePaths().find((path) => path.at(-1) === key);
  if (elsewhere) return `Did you mean ${formatPath(elsewhere)}?`;
  return `Remove it; known here: ${known.join(', ')}.`;
}

function remedyForValue(path: KeyPath, value: Value | undefined): string {
  if (
    typeof value === 'string' &&
    value.trim() !== '' &&
    Number.isFinite(Number(value)) &&
    /number/.test(expectedAt(path))
  ) {
    return 'Remove the quotes.';
  }
  if (typeof value === 'string' && /^(?:yes|no|on|off)$/i.test(value)) return 'Write true or false.';
  const fallback = defaultAt(path);
  if (fallback === undefined || typeof fallback === 'object') return 'Change it.';
  return `Change it, or leave it out for the default, ${JSON.stringify(fallback)}.`;
}

function shown(value: Value | undefined): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'empty';
  if (isTree(value)) return 'a map';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value !== 'string') return String(value);
  return value === ''
    ? 'an empty text'
    : `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value)}`;
}

function valueAt(tree: Value, path: KeyPath): Value | undefined {
  let here: Value | undefined = tree;
  for (const key of path) {
    if (Array.isArray(here)) here = here[Number(key)];
    else if (isTree(here)) here = here[key];
    else return undefined;
  }
  return here;
}
