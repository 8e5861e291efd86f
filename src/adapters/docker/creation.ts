/** What vramflow asks of Docker when it creates a container, and how it knows its own again. */
import { createHash } from 'node:crypto';

import type { ContainerCreateOptions, DeviceRequest } from 'dockerode';

import { canBindTo } from '../../contracts/names.js';
import { type CreatedContainer, containerName } from './service.js';

/** Labels of the containers that vramflow creates. */
export const LABELS = {
  /** Which agent made it: the same on one machine may be several. */
  owner: 'vramflow.owner',
  service: 'vramflow.service',
  /** A hash of the configuration it was made from. */
  config: 'vramflow.config',
} as const;

const LOOPBACK = '127.0.0.1';

export function creationOf(
  service: CreatedContainer,
  gpus: readonly string[],
  owner: string,
): ContainerCreateOptions & { name: string } {
  const request = requestOf(service, gpus);
  return {
    ...request,
    name: containerName(service),
    Labels: { [LABELS.owner]: owner, [LABELS.service]: service.name, [LABELS.config]: hashOf(request) },
  };
}

/** Whether a container carries our labels for this service. One of the same name without them is a stranger's. */
export function isOurs(labels: Readonly<Record<string, string>>, service: CreatedContainer, owner: string): boolean {
  return labels[LABELS.owner] === owner && labels[LABELS.service] === service.name;
}

/** Whether a container was made from what would be asked for now. */
export function isCurrent(labels: Readonly<Record<string, string>>, creation: ContainerCreateOptions): boolean {
  return labels[LABELS.config] === creation.Labels?.[LABELS.config];
}

/** UUIDs of the GPUs that device requests hand out; null when they do not say which. */
export function gpusOf(requests: readonly DeviceRequest[]): string[] | null {
  const ids = requests.flatMap(({ DeviceIDs }) => DeviceIDs ?? []).map((id) => id.replace(/^nvidia\.com\/gpu=/, ''));
  const named = requests.every(({ DeviceIDs }) => (DeviceIDs?.length ?? 0) > 0);
  return named && ids.every((id) => /^(GPU|MIG)-/.test(id)) ? ids : null;
}

function requestOf(service: CreatedContainer, gpus: readonly string[]): ContainerCreateOptions {
  const { image, command, env = {}, ports = [], mounts = [], gpuAccess = 'nvidia' } = service;
  const withNvidia = gpus.length > 0 && gpuAccess === 'nvidia';
  return {
    Image: image,
    ...(command === undefined ? {} : { Cmd: command }),
    Env: Object.entries({
      // Images of CUDA ask for all GPUs by this variable, and NVIDIA's runtime, where it is the default, obeys.
      ...(withNvidia ? {} : { NVIDIA_VISIBLE_DEVICES: 'void' }),
      ...env,
    }).map(([name, value]) => `${name}=${value}`),
    ExposedPorts: Object.fromEntries(ports.map(({ container }) => [`${container}/tcp`, {}])),
    HostConfig: {
      PortBindings: bindingsOf(ports),
      // Mounts, not binds: a bind of a path that does not exist makes an empty folder there, as root.
      Mounts: mounts.map(({ source, target, readOnly = false }) => ({
        Type: 'bind',
        Source: source,
        Target: target,
        ReadOnly: readOnly,
      })),
      DeviceRequests: deviceRequests(gpus, gpuAccess),
      // A service's life is the agent's to decide: a restart by Docker would come without a turn.
      RestartPolicy: { Name: 'no' },
    },
  };
}

function bindingsOf(ports: NonNullable<CreatedContainer['ports']>): Record<string, object[]> {
  const bindings: Record<string, object[]> = {};
  for (const { host, container, address = LOOPBACK } of ports) {
    (bindings[`${container}/tcp`] ??= []).push({ HostIp: address, HostPort: String(host) });
  }
  return bindings;
}

function deviceRequests(gpus: readonly string[], access: 'nvidia' | 'cdi'): DeviceRequest[] {
  if (gpus.length === 0) return [];
  const named = canBindTo(gpus);
  if (access === 'cdi') {
    return [{ Driver: 'cdi', DeviceIDs: (named ? gpus : ['all']).map((id) => `nvidia.com/gpu=${id}`) }];
  }
  return [{ Driver: 'nvidia', ...(named ? { DeviceIDs: [...gpus] } : { Count: -1 }), Capabilities: [['gpu']] }];
}

function hashOf(request: ContainerCreateOptions): string {
  return createHash('sha256').update(JSON.stringify(request)).digest('hex').slice(0, 16);
}
