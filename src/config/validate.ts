/** Merged values → settings, and the problems of form: unknown keys, wrong types, values out of range. */
import type { z } from 'zod';
import { exampleAt, nameExample } from './examples.js';
import type { KeyPath } from './keyPath.js';
import { formatPath } from './keyPath.js';
import { isTree, type Layer, problemIn, type Tree, type Value } from './layer.js';
import { nearest } from './nearest.js';
import type { Problem } from './problem.js';
import { fileSchema, type Settings } from './schema.js';
import {
  defaultAt,
  expectedAt,
  expectedNameIn,
  knownKeys,
  leastAt,
  mayBeLeftOut,
  settablePaths,
} from './schemaWalk.js';

export interface Validated {
  /** Without what has a problem: the rest can be checked for what it says together. */
  settings: Settings;
  problems: Problem[];
  /** Where nobody knows what was meant. */
  inDoubt: KeyPath[];
}

export function validate(merged: Layer): Validated {
  const result = fileSchema.safeParse(merged.tree);
  if (result.success) return { settings: result.data, problems: [], inDoubt: [] };
  const { issues } = result.error;
  const unknown = issues.flatMap((issue) => (issue.code === 'unrecognized_keys' ? issue : []));
  const meant = unknown.flatMap(({ path, keys }) => keys.map((key) => meantBy(path.map(String), key)));
  return {
    settings: withoutMistakes(merged.tree),
    problems: issues.flatMap((issue) => problemsOf(issue, merged)),
    inDoubt: [...issues.flatMap(placesOf), ...meant.filter((path) => path !== null)],
  };
}

/** Takes out what is wrong until the rest is right. What is then missing has its least value, or its section goes too. */
function withoutMistakes(tree: Tree): Settings {
  const rest = structuredClone(tree);
  // Taken out, then perhaps missing, then perhaps its section: three rounds for each level of the file.
  for (let round = 0; round < 12; round += 1) {
    const result = fileSchema.safeParse(rest);
    if (result.success) return result.data;
    for (const path of result.error.issues.flatMap(placesOf)) takeOut(rest, path);
  }
  return fileSchema.parse({});
}

function takeOut(tree: Tree, path: KeyPath): void {
  let here = tree;
  for (const [depth, key] of path.entries()) {
    const inner = here[key];
    const next = path[depth + 1];
    if (next === undefined || !isTree(inner)) return void delete here[key];
    if (depth + 2 === path.length && !Object.hasOwn(inner, next)) {
      const least = leastAt(path);
      if (least === undefined) delete here[key];
      else inner[next] = least;
      return;
    }
    here = inner;
  }
}

function placesOf(issue: z.core.$ZodIssue): KeyPath[] {
  const path = issue.path.map(String);
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...path, key]) : [path];
}

function problemsOf(issue: z.core.$ZodIssue, merged: Layer): Problem[] {
  const path = issue.path.map(String);
  const report = (at: KeyPath, message: string, remedy: string): Problem => problemIn(merged, at, message, remedy);

  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => report([...path, key], 'is not a known key.', remedyForUnknown(path, key)));
  }
  if (issue.code === 'invalid_key') {
    const rule = expectedNameIn(path.slice(0, -1));
    const remedy = `Rename it, for example to ${nameExample(path)}.`;
    return [report(path, `is not a good name: it must be ${rule}.`, remedy)];
  }
  const value = valueAt(merged.tree, path);
  return [report(path, `must be ${expectedAt(path)}, but is ${shown(value)}.`, remedyForValue(path, value))];
}

/** The known key that an unknown one stands for, or null. */
function meantBy(section: KeyPath, key: string): KeyPath | null {
  const near = nearest(key, knownKeys(section));
  return near === null ? null : [...section, near];
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
  if (fallback === undefined || typeof fallback === 'object') {
    return `Write it as \`${exampleAt(path)}\`, for example${mayBeLeftOut(path) ? ', or leave it out' : ''}.`;
  }
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
