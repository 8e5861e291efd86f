import type { Cancel, Clock } from './clock.js';
import { BadRequest, unknownName } from './errors.js';
import type { Recorder } from './recorder.js';

export type FaultParams = Record<string, string | number | boolean>;

interface FaultDefinition {
  readonly summary: string;
  /** Its own parameters and what they are when not given; `null` means that one must be given or is a filter. */
  readonly params: Readonly<Record<string, 'number' | 'string'>>;
  readonly required?: readonly string[];
}

/** A model's name (with or without ':latest') to which the fault is limited. */
const MODEL = { model: 'string' } as const;
/** A card's UUID to which the fault is limited. */
const GPU = { gpu: 'string' } as const;
/** A native service's name to which the fault is limited. */
const SERVICE = { service: 'string' } as const;
/** A container's name to which the fault is limited. */
const CONTAINER = { container: 'string' } as const;

/** Every fault that can be set, each with `count` (how many times) and `durationMs` (simulated) beside its own. */
export const FAULTS = {
  'ollama-unavailable': { summary: 'connections to Ollama are refused; its runners stay', params: {} },
  'ollama-http-error': { summary: 'each API call of Ollama answers status (500)', params: { status: 'number' } },
  'ollama-slow': { summary: 'each answer of Ollama comes ms later', params: { ms: 'number' }, required: ['ms'] },
  'load-hang': { summary: 'a load stops half-way and never ends', params: MODEL },
  'load-fail': { summary: 'a load fails (times: how often)', params: { ...MODEL, times: 'number' } },
  'load-slow': {
    summary: 'a load takes factor times as long',
    params: { ...MODEL, factor: 'number' },
    required: ['factor'],
  },
  'unload-ignored': { summary: 'an unload answers 200, the model stays', params: MODEL },
  'memory-held': {
    summary:
      'memory of an ended process (of: runner, embedder, service, container or any) never comes back until cleared',
    params: { of: 'string' },
  },
  'reclaim-slow': { summary: 'freed memory comes back ms later', params: { ms: 'number' }, required: ['ms'] },
  'generate-hang': { summary: 'inference never answers; ps stays healthy', params: MODEL },
  'partial-offload': {
    summary: 'a load puts only share (0.6) of the model on the GPU',
    params: { ...MODEL, share: 'number' },
  },
  'runner-crash': { summary: 'the runner dies at the next inference', params: MODEL },
  'smi-na': { summary: 'nvidia-smi prints [N/A] for memory and utilisation', params: GPU },
  'smi-err': { summary: 'nvidia-smi prints ERR! for memory and utilisation', params: GPU },
  'smi-gpu-lost': { summary: 'the GPU is lost', params: GPU },
  'smi-driver-mismatch': { summary: 'driver and library differ: nvidia-smi does not start', params: {} },
  'smi-cut-lines': { summary: 'lines of nvidia-smi are cut or come in pieces', params: {} },
  'smi-mig': { summary: 'MIG is on: no utilisation, no memory figures', params: GPU },
  'smi-no-permission': { summary: '[Insufficient Permissions] for memory', params: GPU },
  'smi-hang': { summary: 'nvidia-smi prints nothing more and ignores SIGTERM', params: {} },
  'smi-missing': { summary: 'there is no nvidia-smi (exit 127)', params: {} },
  'embedder-fail': {
    summary: 'an embedder fails (when: start or request)',
    params: { when: 'string', device: 'string' },
  },
  'embedder-wrong': {
    summary: 'embeddings are wrong (kind: not-finite, wrong-dimension, not-unit or different)',
    params: { kind: 'string', device: 'string' },
    required: ['kind'],
  },
  'embedder-slow': {
    summary: 'embedders start and answer ms later',
    params: { ms: 'number', device: 'string' },
    required: ['ms'],
  },
  'service-fail': { summary: 'a native service fails at its start', params: SERVICE },
  'service-deaf': { summary: 'a native service does not hear SIGTERM', params: SERVICE },
  'service-unhealthy': {
    summary: "a native service's pages answer status (503)",
    params: { ...SERVICE, status: 'number' },
  },
  'service-crash': { summary: 'a native service that is up dies at once', params: SERVICE },
  'docker-unavailable': { summary: 'the Docker daemon is away; its containers go on', params: {} },
  'container-fail': { summary: 'a container cannot be started', params: CONTAINER },
  'container-deaf': { summary: 'a container does not hear its stop signal', params: CONTAINER },
  'container-stuck': { summary: 'a container does not die, also when killed, until cleared', params: CONTAINER },
  'container-unhealthy': {
    summary: "a container's pages answer status (503)",
    params: { ...CONTAINER, status: 'number' },
  },
  'container-crash': {
    summary: 'a running container dies after ms (at once)',
    params: { ...CONTAINER, ms: 'number' },
  },
} as const satisfies Record<string, FaultDefinition>;

export type FaultName = keyof typeof FAULTS;

/** The values that a parameter may have, where not every string makes sense. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  of: ['runner', 'embedder', 'service', 'container', 'any'],
  when: ['start', 'request'],
  kind: ['not-finite', 'wrong-dimension', 'not-unit', 'different'],
  device: ['cpu', 'cuda'],
};

interface ActiveFault {
  readonly params: FaultParams;
  /** How many times it still applies; null means until cleared. */
  remaining: number | null;
  readonly expiry: Cancel;
}

/** The faults that are set now. */
export class FaultBoard {
  readonly #clock: Clock;
  readonly #recorder: Recorder;
  readonly #active = new Map<FaultName, ActiveFault>();
  readonly #changeWatchers = new Set<() => void>();
  readonly #clearWatchers = new Map<FaultName, Set<() => void>>();

  constructor(clock: Clock, recorder: Recorder) {
    this.#clock = clock;
    this.#recorder = recorder;
  }

  /**
   * Sets a fault, in place of an earlier one of that name.
   * @throws {BadRequest} when the name or a parameter is not known.
   */
  set(name: string, params: FaultParams = {}): void {
    const fault = checkedName(name);
    const { count, times, durationMs, ...own } = checkedParams(fault, params);
    this.#active.get(fault)?.expiry();
    const expiry =
      typeof durationMs === 'number' ? this.#clock.after(durationMs, () => this.#end(fault, true)) : () => {};
    this.#active.set(fault, { params: own, remaining: numberOr(count, numberOr(times, null)), expiry });
    this.#recorder.add({ kind: 'fault-set', fault, params });
    this.#changed();
  }

  /** Clears one fault, or all. What hangs because of it goes on. */
  clear(name?: string): void {
    const names = name === undefined ? (Object.keys(FAULTS) as FaultName[]) : [checkedName(name)];
    for (const fault of names) this.#end(fault, true);
  }

  /** The parameters of a fault that is set and meant for this case; null otherwise. Uses nothing up. */
  active(name: FaultName, context: FaultParams = {}): FaultParams | null {
    const fault = this.#active.get(name);
    return fault !== undefined && concerns(fault.params, context) ? fault.params : null;
  }

  /** As `active`, and one of its `count` is used up. */
  take(name: FaultName, context: FaultParams = {}): FaultParams | null {
    const params = this.active(name, context);
    const fault = this.#active.get(name);
    if (params === null || fault === undefined) return null;
    if (fault.remaining !== null && --fault.remaining <= 0) this.#end(name, false);
    return params;
  }

  /** Calls `action` once when the fault is cleared by hand or by time, not when its count is used up. */
  onceCleared(name: FaultName, action: () => void): Cancel {
    const watchers = this.#clearWatchers.get(name) ?? new Set();
    this.#clearWatchers.set(name, watchers.add(action));
    return () => watchers.delete(action);
  }

  /** Calls `action` at each change of what is set. */
  onChange(action: () => void): void {
    this.#changeWatchers.add(action);
  }

  /** What is set, for people and for a restart. */
  list(): { name: FaultName; params: FaultParams; remaining: number | null }[] {
    return [...this.#active].map(([name, { params, remaining }]) => ({ name, params, remaining }));
  }

  #end(name: FaultName, released: boolean): void {
    const fault = this.#active.get(name);
    if (fault !== undefined) {
      fault.expiry();
      this.#active.delete(name);
      this.#recorder.add({ kind: 'fault-cleared', fault: name, params: fault.params });
      this.#changed();
    }
    if (!released) return;
    const watchers = [...(this.#clearWatchers.get(name) ?? [])];
    this.#clearWatchers.delete(name);
    for (const watcher of watchers) watcher();
  }

  #changed(): void {
    for (const watcher of this.#changeWatchers) watcher();
  }
}

function checkedName(name: string): FaultName {
  return name in FAULTS ? (name as FaultName) : unknownName('fault', name, Object.keys(FAULTS));
}

function checkedParams(name: FaultName, params: FaultParams): FaultParams {
  const definition: FaultDefinition = FAULTS[name];
  const types: Record<string, 'number' | 'string'> = { ...definition.params, count: 'number', durationMs: 'number' };
  for (const [key, value] of Object.entries(params)) {
    const type = types[key] ?? unknownName(`parameter of ${name}`, key, Object.keys(types));
    if (typeof value !== type || (typeof value === 'number' && !(value >= 0))) {
      throw new BadRequest(`parameter '${key}' of ${name} must be a ${type === 'number' ? 'number from 0 up' : type}`);
    }
    const allowed = ALLOWED[key];
    if (allowed !== undefined && !allowed.includes(String(value)))
      unknownName(`${key} of ${name}`, String(value), allowed);
  }
  for (const key of definition.required ?? []) {
    if (!(key in params)) throw new BadRequest(`${name} needs the parameter '${key}'`);
  }
  return params;
}

/** A fault with a filter (model, gpu, device) concerns only what has that value. */
function concerns(params: FaultParams, context: FaultParams): boolean {
  return Object.entries(context).every(([key, value]) => {
    const wanted = params[key];
    return wanted === undefined || withTag(wanted) === withTag(value);
  });
}

function withTag(value: string | number | boolean): string {
  return String(value).replace(/:latest$/, '');
}

function numberOr<T>(value: unknown, otherwise: T): number | T {
  return typeof value === 'number' ? value : otherwise;
}
