/** One source of values (a file, the environment, the flags), and how sources lie on top of each other. */
import { resolve } from 'node:path';
import { formatPath, type KeyPath, parsePath } from './keyPath.js';
import { fullModelName, VLM_ALIAS } from './modelName.js';
import { type Origin, type Problem, problemAt } from './problem.js';
import { isFilePath, isSection, namesFilePaths } from './schemaWalk.js';

export type Value = string | number | boolean | bigint | null | Value[] | Tree;
export interface Tree {
  [key: string]: Value;
}

export interface Layer {
  tree: Tree;
  /** Where each key, section or value, was written; by formatted key path. */
  origins: Map<string, Origin>;
  /** Full names of models → as they were written, where that is not the same. */
  written: Map<string, string>;
}

export const EMPTY_LAYER: Layer = { tree: {}, origins: new Map(), written: new Map() };

export const isTree = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

interface Reading {
  originOf: (path: KeyPath) => Origin;
  /** Relative paths are relative to this folder; undefined: they stay as they are. */
  folder?: string | undefined;
  homeDir: string;
  problems: Problem[];
}

/**
 * Brings values as written into one form: full model names, absolute paths, and an empty section
 * (`models:` with every line below commented out) as an empty map.
 */
export function layerOf(written: Tree, reading: Reading): Layer {
  const origins = new Map<string, Origin>();
  const asWritten = new Map<string, string>();
  const fullName = (name: string): string => {
    const full = fullModelName(name);
    if (full !== name) asWritten.set(full, name);
    return full;
  };
  const { folder, homeDir } = reading;
  const fullPath = (path: string): string => (folder === undefined ? path : absolute(path, folder, homeDir));
  const fullKey = (key: string, section: KeyPath): string => {
    if (namesModels(section) && key !== VLM_ALIAS) return fullName(key);
    return namesFilePaths(section) && key !== '' ? fullPath(key) : key;
  };

  const normalise = (value: Value, from: KeyPath, to: KeyPath): Value => {
    origins.set(formatPath(to), reading.originOf(from));
    if (value === null && isSection(to)) return {};
    if (Array.isArray(value))
      return value.map((item, index) => normalise(item, [...from, `${index}`], [...to, `${index}`]));
    if (isTree(value)) return normaliseTree(value, from, to);
    if (typeof value !== 'string' || value === '') return value;
    if (formatPath(to) === 'vlm_model') return fullName(value);
    return isFilePath(to) ? fullPath(value) : value;
  };

  const normaliseTree = (tree: Tree, from: KeyPath, to: KeyPath): Tree => {
    const result: Tree = {};
    for (const [key, value] of Object.entries(tree)) {
      const name = fullKey(key, to);
      if (Object.hasOwn(result, name)) {
        const origin = reading.originOf([...from, key]);
        const message = namesModels(to)
          ? 'names a model that is here already: without a tag, latest is meant.'
          : 'names a folder that is here already.';
        reading.problems.push(problemAt(origin, [...to, key], message, 'Keep one of them.'));
      }
      result[name] = normalise(value, [...from, key], [...to, name]);
    }
    return result;
  };

  return { tree: normaliseTree(written, [], []), origins, written: asWritten };
}

/** `models` and `modes.<name>.models` have models as their keys. */
const namesModels = (path: KeyPath): boolean =>
  path.at(-1) === 'models' && (path.length === 1 || (path.length === 3 && path[0] === 'modes'));

const absolute = (path: string, folder: string, homeDir: string): string =>
  path === '~' || path.startsWith('~/') ? resolve(homeDir, path.slice(2)) : resolve(folder, path);

/** The layer without the keys that `keeps` refuses, and what is below these, as if nobody had written them. */
export function keepOnly(layer: Layer, keeps: (path: KeyPath) => boolean): Layer {
  const isKept = (path: KeyPath) => path.every((_, index) => keeps(path.slice(0, index + 1)));
  const origins = new Map([...layer.origins].filter(([key]) => isKept(parsePath(key) ?? [])));
  return { ...layer, tree: pruned(layer.tree, [], keeps), origins };
}

function pruned(tree: Tree, at: KeyPath, keeps: (path: KeyPath) => boolean): Tree {
  return Object.fromEntries(
    Object.entries(tree)
      .map(([key, value]) => ({ key, value, path: [...at, key] }))
      .filter(({ path }) => keeps(path))
      .map(({ key, value, path }) => [key, isTree(value) ? pruned(value, path, keeps) : value]),
  );
}

/** Later layers win; maps merge key by key, everything else is replaced. */
export function mergeLayers(layers: readonly Layer[]): Layer {
  let tree: Tree = {};
  const origins = new Map<string, Origin>();
  const written = new Map<string, string>();
  for (const layer of layers) {
    tree = mergeTrees(tree, layer.tree);
    for (const [key, origin] of layer.origins) origins.set(key, origin);
    for (const [full, name] of layer.written) written.set(full, name);
  }
  return { tree, origins, written };
}

function mergeTrees(lower: Tree, upper: Tree): Tree {
  const result: Tree = { ...lower };
  for (const [key, value] of Object.entries(upper)) {
    const under = result[key];
    result[key] = isTree(under) && isTree(value) ? mergeTrees(under, value) : value;
  }
  return result;
}

/** Where a key was written; for one that was not, its nearest section that was. */
export function originNear(layer: Layer, path: KeyPath): Origin | null {
  for (let length = path.length; length > 0; length--) {
    const origin = layer.origins.get(formatPath(path.slice(0, length)));
    if (origin) return origin;
  }
  return null;
}

/** A problem of what the layers say together, at its place, with the names that the user wrote. */
export function problemIn(layer: Layer, path: KeyPath, message: string, remedy: string): Problem {
  const shown = path.map((segment) => layer.written.get(segment) ?? segment);
  const plain = (text: string): string =>
    [...layer.written].reduce((said, [full, name]) => said.replaceAll(full, name), text);
  return problemAt(originNear(layer, path) ?? { from: 'default' }, shown, plain(message), plain(remedy));
}
