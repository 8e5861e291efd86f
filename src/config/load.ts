/** Finds, reads and merges all sources: flag > environment > project file > user file > default. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { complete } from './complete.js';
import { crossChecks } from './crossChecks.js';
import {
  CONFIG_VARIABLE,
  environmentOrigin,
  environmentValues,
  flagValues,
  type TextValues,
  unknownVariables,
} from './environment.js';
import { userConfigFile } from './folders.js';
import { formatPath, type KeyPath } from './keyPath.js';
import { EMPTY_LAYER, isTree, keepOnly, type Layer, layerOf, mergeLayers, problemIn, type Tree } from './layer.js';
import { ConfigError, type Origin, type Problem, problemAt } from './problem.js';
import type { Config } from './schema.js';
import { validate } from './validate.js';
import { parseYaml } from './yamlFile.js';

export interface LoadInput {
  argv: {
    /** `--config`. */
    config?: string | undefined;
    /** Values by key path, as text: `{ 'gpu.reader': 'none' }`. */
    overrides: Readonly<Record<string, string>>;
  };
  env: NodeJS.ProcessEnv;
  cwd: string;
  homeDir: string;
}

export interface ConfigFile {
  role: 'project' | 'user';
  path: string;
  /** Somebody named it, so it must exist. */
  named: boolean;
}

export interface Loaded {
  config: Config;
  /** Where each value comes from, by key path (`models."a:7b".vram_mb`). Complete: defaults too. */
  origins: ReadonlyMap<string, Origin>;
  /** The files that were read. */
  files: ConfigFile[];
  /** From weak to strong; `withOverlay` adds one. */
  layers: readonly Layer[];
  /** What looks like a mistake and stops nothing. */
  warnings: readonly Problem[];
}

/** The files that a load looks at, strong first, whether they exist or not. */
export function configFiles({ argv, env, cwd, homeDir }: LoadInput): ConfigFile[] {
  const named = argv.config ?? (env[CONFIG_VARIABLE] || undefined);
  return [
    { role: 'project', path: resolve(cwd, named ?? 'vramflow.yaml'), named: named !== undefined },
    { role: 'user', path: userConfigFile({ env, homeDir }), named: false },
  ];
}

/** @throws ConfigError with every problem of every source. */
export function loadConfig(input: LoadInput): Loaded {
  const problems: Problem[] = [];
  const read = configFiles(input).flatMap((file) => {
    const layer = readLayer(file, input.homeDir, problems);
    return layer ? [{ file, layer }] : [];
  });
  const layers = [
    ...read.map(({ layer }) => layer).reverse(),
    textLayer(environmentValues(input.env), input, problems, environmentOrigin),
    textLayer(flagValues(input.argv.overrides), input, problems, () => ({ from: 'flag' })),
  ];
  return assemble(
    layers,
    read.map(({ file }) => file),
    problems,
    unknownVariables(input.env),
  );
}

/**
 * One file for itself, without the environment and the user's file.
 * @throws ConfigError
 */
export function checkFile(path: string, homeDir: string): Loaded {
  const problems: Problem[] = [];
  const file: ConfigFile = { role: 'project', path, named: true };
  const layer = readLayer(file, homeDir, problems) ?? EMPTY_LAYER;
  return assemble([layer], [file], problems);
}

/**
 * Lays values on top of everything else: the simulator's endpoints.
 * @param keeps which keys of what lies below stay; the others are as if nobody had written them
 * @throws ConfigError when the result is no good configuration.
 */
export function withOverlay(
  loaded: Loaded,
  values: Tree,
  origin: Origin['from'],
  keeps: (path: KeyPath) => boolean = () => true,
): Loaded {
  const problems: Problem[] = [];
  const below = loaded.layers.map((layer) => keepOnly(layer, keeps));
  const overlay = layerOf(values, { originOf: () => ({ from: origin }), homeDir: '', problems });
  return assemble([...below, overlay], loaded.files, problems, loaded.warnings);
}

function assemble(
  layers: readonly Layer[],
  files: ConfigFile[],
  problems: Problem[],
  warnings: readonly Problem[] = [],
): Loaded {
  const merged = mergeLayers(layers);
  const { settings, problems: ofForm, inDoubt } = validate(merged);
  problems.push(...ofForm);
  const completed = complete(settings, hostname());
  for (const { path, about, message, remedy } of crossChecks(completed)) {
    // What has a mistake of form is left out of the settings: its absence is no second mistake.
    const isFollowUp = [path, ...(about ? [about] : [])].some((at) => inDoubt.some((doubt) => isRelated(at, doubt)));
    if (!isFollowUp) problems.push(problemIn(merged, path, message, remedy));
  }
  if (problems.length > 0) throw new ConfigError(problems);
  const origins = new Map<string, Origin>();
  for (const path of valuePaths(completed.config)) {
    const key = formatPath(path);
    origins.set(key, merged.origins.get(key) ?? { from: 'default' });
  }
  return { config: completed.config, origins, files, layers, warnings };
}

/** One is the other, or holds it. */
const isRelated = (a: KeyPath, b: KeyPath): boolean => a.every((key, at) => at >= b.length || key === b[at]);

const READ_FAILURES: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'your user may not read it',
};

/** Null when the file is not there and need not be. */
function readLayer(file: ConfigFile, homeDir: string, problems: Problem[]): Layer | null {
  let text: string;
  try {
    text = readFileSync(file.path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && !file.named) return null;
    const why = (code && READ_FAILURES[code]) ?? String(error);
    const remedy = file.named ? 'Name a file that you may read.' : 'Make it a file that you may read, or remove it.';
    problems.push(problemAt({ from: file.role, file: file.path }, null, `cannot be read: ${why}.`, remedy));
    return null;
  }
  const parsed = parseYaml(text, file.path, file.role);
  problems.push(...parsed.problems);
  return layerOf(parsed.tree, {
    originOf: (path) => parsed.origins.get(formatPath(path)) ?? { from: file.role, file: file.path },
    folder: dirname(file.path),
    homeDir,
    problems,
  });
}

function textLayer(
  values: TextValues,
  input: LoadInput,
  problems: Problem[],
  originOf: (path: KeyPath) => Origin,
): Layer {
  problems.push(...values.problems);
  return layerOf(values.tree, { originOf, folder: input.cwd, homeDir: input.homeDir, problems });
}

/** The paths of all single values, lists and empty maps. */
export function valuePaths(value: object, path: KeyPath = []): KeyPath[] {
  return Object.entries(value).flatMap(([key, inner]: [string, unknown]) => {
    const below = [...path, key];
    if (inner === undefined) return [];
    return isTree(inner) && Object.keys(inner).length > 0 ? valuePaths(inner, below) : [below];
  });
}
