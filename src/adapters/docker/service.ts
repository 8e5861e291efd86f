/** A Docker service as the configuration has it. */

/** A container that somebody else made: it is started and stopped, never created nor removed. */
export interface ExistingContainer {
  name: string;
  /** The container's name. */
  container: string;
}

/** A container that vramflow creates and, when its configuration changed, creates anew. */
export interface CreatedContainer {
  name: string;
  image: string;
  /** In place of the image's own. */
  command?: [string, ...string[]];
  env?: Record<string, string>;
  ports?: readonly PublishedPort[];
  mounts?: readonly Mount[];
  /** How the daemon hands GPUs to a container; by default `nvidia`, which needs the NVIDIA Container Toolkit. */
  gpuAccess?: 'nvidia' | 'cdi';
}

export interface PublishedPort {
  host: number;
  container: number;
  /** Where the port is open on this machine; by default 127.0.0.1, so for programs of this machine only. */
  address?: string;
}

export interface Mount {
  /** An absolute path on this machine; it must exist. */
  source: string;
  /** An absolute path in the container. */
  target: string;
  readOnly?: boolean;
}

export type DockerService = ExistingContainer | CreatedContainer;

export function isCreated(service: DockerService): service is CreatedContainer {
  return 'image' in service;
}

export function containerName(service: DockerService): string {
  return isCreated(service) ? `vramflow-${service.name}` : service.container;
}

/** Where a service's settings stand in the configuration, for errors that say what to change. */
export const keyOf = (service: DockerService, key: keyof ExistingContainer | keyof CreatedContainer): string =>
  `services.${service.name}.${key}`;
