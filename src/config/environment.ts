/** The environment variables that vramflow reads for its configuration. An empty one counts as not set. */
import { distance } from 'fastest-levenshtein';
import { parse } from 'yaml';
import { formatPath, type KeyPath, parsePath } from './keyPath.js';
import type { Tree, Value } from './layer.js';
import { nearest } from './nearest.js';
import { type Origin, type Problem, problemAt } from './problem.js';
import { isText } from './schemaWalk.js';

/** Names the project file, as `--config` does. */
export const CONFIG_VARIABLE = 'VRAMFLOW_CONFIG';

/** Each variable and the key that it sets. Maps by name (`models`, `modes`) are for files. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  VRAMFLOW_HOST: 'host',
  VRAMFLOW_OLLAMA_ENDPOINT: 'ollama_endpoint',
  VRAMFLOW_VLM_MODEL: 'vlm_model',
  VRAMFLOW_CLIP_MODEL: 'clip_model',
  VRAMFLOW_IDLE_TIMEOUT_SECONDS: 'idle_timeout_seconds',
  VRAMFLOW_VRAM_THRESHOLD_FOR_CLIP_GPU_MB: 'vram_threshold_for_clip_gpu_mb',
  VRAMFLOW_MAX_LOAD_RETRIES: 'max_load_retries',
  VRAMFLOW_LOAD_TIMEOUT_SECONDS: 'load_timeout_seconds',
  VRAMFLOW_UNLOAD_TIMEOUT_SECONDS: 'unload_timeout_seconds',
  VRAMFLOW_RESERVE_MB: 'reserve_mb',
  VRAMFLOW_VRAM_EVENT_THRESHOLD_MB: 'vram_event_threshold_mb',
  VRAMFLOW_VRAM_POLL_MS: 'vram_poll_ms',
  VRAMFLOW_DEGRADED_RETRY_SECONDS: 'degraded_retry_seconds',
  VRAMFLOW_RECONCILE_SECONDS: 'reconcile_seconds',
  VRAMFLOW_CLIP_VRAM_MB: 'clip.vram_mb',
  VRAMFLOW_CLIP_PRIORITY: 'clip.priority',
  VRAMFLOW_CLIP_MODEL_PATH: 'clip.model_path',
  VRAMFLOW_CLIP_GPU_PROVIDER: 'clip.gpu_provider',
  VRAMFLOW_CLIP_MOVE_TIMEOUT_SECONDS: 'clip.move_timeout_seconds',
  VRAMFLOW_CLIP_COMMAND: 'clip.command',
  VRAMFLOW_GPU_READER: 'gpu.reader',
  VRAMFLOW_GPU_NVIDIA_SMI: 'gpu.nvidia_smi',
  VRAMFLOW_GPU_TOTAL_MB: 'gpu.total_mb',
  VRAMFLOW_DOCKER_SOCKET: 'docker.socket',
  VRAMFLOW_GATEWAY_LISTEN: 'gateway.listen',
  VRAMFLOW_GATEWAY_OPEN_ROUTES: 'gateway.open_routes',
  VRAMFLOW_TEMPORAL_ADDRESS: 'temporal.address',
  VRAMFLOW_TEMPORAL_NAMESPACE: 'temporal.namespace',
  VRAMFLOW_TEMPORAL_PORT: 'temporal.port',
  VRAMFLOW_TEMPORAL_UI_PORT: 'temporal.ui_port',
  VRAMFLOW_TEMPORAL_UI_URL: 'temporal.ui_url',
  VRAMFLOW_TEMPORAL_BINARY: 'temporal.binary',
  VRAMFLOW_AGENT_LISTEN: 'agent.listen',
  VRAMFLOW_AGENT_TOKEN_FILE: 'agent.token_file',
  VRAMFLOW_DATA_DIR: 'data_dir',
  VRAMFLOW_LOG_LEVEL: 'log_level',
};

export interface TextValues {
  tree: Tree;
  problems: Problem[];
}

export function environmentValues(env: NodeJS.ProcessEnv): TextValues {
  const values: TextValues = { tree: {}, problems: [] };
  for (const [variable, key] of Object.entries(ENVIRONMENT)) {
    const written = env[variable];
    if (written) setText(values, parsePath(key) ?? [key], written, { from: 'environment', variable });
  }
  for (const variable of Object.keys(env)) {
    const meant = misspelt(variable);
    if (!meant) continue;
    const origin: Origin = { from: 'environment', variable };
    values.problems.push(problemAt(origin, null, 'is not a variable that vramflow knows.', `Did you mean ${meant}?`));
  }
  return values;
}

/** The variable that sets a key, or one above it (`gpu.nvidia_smi` for its items). */
export function environmentOrigin(path: KeyPath): Origin {
  for (let length = path.length; length > 0; length--) {
    const key = formatPath(path.slice(0, length));
    const variable = Object.keys(ENVIRONMENT).find((name) => ENVIRONMENT[name] === key);
    if (variable !== undefined) return { from: 'environment', variable };
  }
  return { from: 'environment' };
}

const PREFIX = 'VRAMFLOW_';

/** Read by other parts, or given by them to the processes that they start. `CONFIG_FILE`: of docker-compose.yml. */
const OF_OTHER_PARTS = /^VRAMFLOW_(?:IN_CONTAINER|OWNER|SIMULATOR|CLIP_PART|CLIP_CACHE|CONFIG_FILE)$/;
/** Of the tests and of the recording of histories. */
const OF_TESTS = /^VRAMFLOW_(?:TEST_|SOAK$|SEED$|SEQUENCES$|RECORD_)/;

const isKnown = (variable: string): boolean =>
  !variable.startsWith(PREFIX) ||
  variable === CONFIG_VARIABLE ||
  Object.hasOwn(ENVIRONMENT, variable) ||
  OF_OTHER_PARTS.test(variable) ||
  OF_TESTS.test(variable);

/** Variables that nothing reads, each with the nearest one that something does. A near miss is a mistake already. */
export function unknownVariables(env: NodeJS.ProcessEnv): Problem[] {
  const known = [CONFIG_VARIABLE, ...Object.keys(ENVIRONMENT)].map((name) => name.slice(PREFIX.length));
  return Object.keys(env)
    .filter((variable) => !isKnown(variable) && misspelt(variable) === null)
    .map((variable) => {
      const near = nearest(variable.slice(PREFIX.length), known);
      const remedy = near
        ? `Did you mean ${PREFIX}${near}?`
        : 'Remove it; a variable is named as its key, VRAMFLOW_LOG_LEVEL.';
      return problemAt({ from: 'environment', variable }, null, 'is not a variable that vramflow knows.', remedy);
    });
}

/** A variable may be meant for something else, so only a near miss is a mistake. */
function misspelt(variable: string): string | null {
  if (isKnown(variable)) return null;
  return [CONFIG_VARIABLE, ...Object.keys(ENVIRONMENT)].find((known) => distance(known, variable) <= 2) ?? null;
}

/** The values of `--set key=value`, by key path. */
export function flagValues(overrides: Readonly<Record<string, string>>): TextValues {
  const values: TextValues = { tree: {}, problems: [] };
  const origin: Origin = { from: 'flag' };
  for (const [key, written] of Object.entries(overrides)) {
    const path = parsePath(key);
    // It would be written into the prototype of all objects.
    if (path && !path.includes('__proto__')) setText(values, path, written, origin);
    else
      values.problems.push(
        problemAt(origin, [key], 'is not a key path.', 'Write it as gpu.reader, or models."a:7b".vram_mb.'),
      );
  }
  return values;
}

/** Texts are taken as they are; numbers, truth values, lists and maps are read as YAML (`[a, b]`). */
function setText(values: TextValues, path: KeyPath, written: string, origin: Origin): void {
  let value: Value = written;
  if (!isText(path)) {
    try {
      value = parse(written) as Value;
    } catch {
      values.problems.push(
        problemAt(origin, path, `cannot be read: ${written}`, 'Write a number, true, false, or [a, list].'),
      );
      return;
    }
  }
  let here = values.tree;
  for (const key of path.slice(0, -1)) {
    const next = here[key];
    here = here[key] = typeof next === 'object' && next !== null && !Array.isArray(next) ? next : {};
  }
  here[path.at(-1) ?? formatPath(path)] = value;
}
