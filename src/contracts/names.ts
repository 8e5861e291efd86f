/** Names that clients, workers and people share: task queues, workflow ids, search attributes. */

/** The task queue of workflows and of the activities that need no hardware. */
export const CONTROL_QUEUE = 'vramflow';

/** The task queue of the agent beside one host's hardware. */
export const hostQueue = (host: string): string => `host.${host}`;

export const workflowId = {
  gpuHost: (host: string) => `gpu-host/${host}`,
  modeTransition: (host: string, request: string) => `mode/${host}/${request}`,
  modelOperation: (host: string, name: string, verb: ModelVerb, request: string) =>
    `model/${host}/${name}/${verb}/${request}`,
  phasePreparation: (host: string, phase: string, request: string) => `phase/${host}/${phase}/${request}`,
  serviceOperation: (host: string, service: string, verb: ServiceVerb, request: string) =>
    `service/${host}/${service}/${verb}/${request}`,
  lease: (host: string, lease: string) => `lease/${host}/${lease}`,
  idleUnload: (host: string, model: string) => `idle/${host}/${model}`,
  reconciliation: (host: string, sequence: string) => `reconcile/${host}/${sequence}`,
} as const;

/** What a `modelOperation` can be asked for; the moves are for the embedder. */
export type ModelVerb = 'load' | 'unload' | 'move-cpu' | 'move-cuda';

export type ServiceVerb = 'start' | 'stop' | 'restart';

/**
 * Search attributes of every vramflow workflow. All are keywords; a worker registers them at start,
 * because a server refuses a workflow that uses one it does not know.
 */
export const SEARCH_ATTRIBUTES = {
  host: 'VramflowHost',
  mode: 'VramflowMode',
  tenant: 'VramflowTenant',
  outcome: 'VramflowOutcome',
} as const;

/** A model as a tenant, for example `model/qwen3-vl:8b`. */
export const modelTenant = (model: string): string => `model/${model}`;

/** The name inside a tenant id: `model/qwen3-vl:8b` → `qwen3-vl:8b`. */
export const tenantName = (tenant: string): string => tenant.slice(tenant.indexOf('/') + 1);

/** A service as a tenant, for example `service/comfyui`. */
export const serviceTenant = (service: string): string => `service/${service}`;

/** What is promised to a lease, for example `reservation/blender`. */
export const reservationTenant = (lease: string): string => `reservation/${lease}`;

export const isReservation = (tenant: string): boolean => tenant.startsWith('reservation/');
export const isService = (tenant: string): boolean => tenant.startsWith('service/');
export const isModel = (tenant: string): boolean => tenant.startsWith('model/');

/** Of a process whose name the driver does not tell. */
export const UNNAMED = 'unknown';

/** The one embedder of a host. */
export const EMBEDDER = 'embedder/clip';

/** The device that every host has. GPUs are known by their UUID, never by an index. */
export const CPU = 'cpu';

/** The GPU of a host that declares its size and reads nothing (P9). It stands for whatever is there: no program knows it. */
export const DECLARED_GPU = 'declared-0';

/** Whether programs can be bound to these GPUs: of one that is only declared nobody knows the id. */
export const canBindTo = (gpus: readonly string[]): boolean => !gpus.includes(DECLARED_GPU);

/** Shows a program of CUDA these GPUs only; where that cannot be, its environment stays as it is. */
export const cudaEnvironment = (gpus: readonly string[]): { CUDA_VISIBLE_DEVICES?: string } =>
  canBindTo(gpus) ? { CUDA_VISIBLE_DEVICES: gpus.join(',') } : {};
