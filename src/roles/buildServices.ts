/** The services of the configuration, with their drivers and their health checks. */
import { join } from 'node:path';
import { createDockerDriver } from '../adapters/docker/driver.js';
import type { DockerService } from '../adapters/docker/service.js';
import type { HealthProbe } from '../adapters/health/check.js';
import { createCommandProbe } from '../adapters/health/command.js';
import { createHttpProbe } from '../adapters/health/http.js';
import { createLogLineProbe } from '../adapters/health/logLine.js';
import { createTcpProbe } from '../adapters/health/tcp.js';
import { createNativeDriver } from '../adapters/native/driver.js';
import type { NativeService } from '../adapters/native/service.js';
import type { ServiceDriver } from '../adapters/services/driver.js';
import type { Run } from '../agent/runs.js';
import { type ManagedService, Services } from '../agent/services.js';
import { StateFile } from '../agent/stateFile.js';
import type { Config, ServiceSettings } from '../config/schema.js';

/** So much of a service's output is looked through for the line that says that it is ready. */
const LOG_TAIL = 1_000;

/** Where native services keep their records and logs. @param folder of this host's agent */
export const nativeFolder = (folder: string): string => join(folder, 'services');

/** @param folder of this host's agent */
export function buildServices(config: Config, folder: string, now: () => number): Services {
  const entries = Object.entries(config.services);
  const natives = entries.filter(([, { run }]) => run !== undefined);
  const native =
    natives.length === 0
      ? null
      : createNativeDriver({ services: natives.map(nativeOf), stateDir: nativeFolder(folder) });
  const containers = entries.filter(([, { run }]) => run === undefined);
  const docker =
    containers.length === 0
      ? null
      : createDockerDriver({
          daemon: { socketPath: config.docker.socket },
          services: containers.map(containerOf),
          owner: config.host,
        });
  const managed = entries.flatMap(([name, settings]): ManagedService[] => {
    const driver = settings.run ? native : docker;
    return driver === null ? [] : [managedOf(name, settings, driver)];
  });
  return new Services(managed, new StateFile<Record<string, Run>>(join(folder, 'placements.json'), {}), now);
}

function nativeOf([name, { run, directory, env, ports, adopt }]: [string, ServiceSettings]): NativeService {
  const [port] = ports;
  const [executable] = adopt ?? [];
  return {
    name,
    argv: run as [string, ...string[]],
    env,
    ...(directory === undefined ? {} : { cwd: directory }),
    ports,
    ...(executable === undefined
      ? {}
      : { match: { executable, argv: adopt as [string, ...string[]], ...(port === undefined ? {} : { port }) } }),
  };
}

export function containerOf([name, { container, image, command, env, ports, mounts, gpu_access: gpuAccess }]: [
  string,
  ServiceSettings,
]): DockerService {
  if (image === undefined) return { name, container: container ?? name };
  return {
    name,
    image,
    ...(command === undefined ? {} : { command: command as [string, ...string[]] }),
    env,
    ports: ports.map((port) => ({ host: port, container: port })),
    mounts: Object.entries(mounts).map(([source, target]) => ({ source, target })),
    ...(gpuAccess === undefined ? {} : { gpuAccess }),
  };
}

function managedOf(name: string, settings: ServiceSettings, driver: ServiceDriver): ManagedService {
  const { health, start_timeout_seconds: startSeconds, vram_mb: vramMb } = settings;
  return {
    name,
    driver,
    probe: probeOf(name, settings, driver),
    health: {
      startPeriodMs: startSeconds * 1000,
      intervalMs: (health?.interval_seconds ?? 5) * 1000,
      // Where none is configured the check is Docker's, which has counted failures already.
      failuresToUnhealthy: health?.failures ?? 1,
      successesToReady: 1,
    },
    usesGpu: vramMb > 0,
  };
}

function probeOf(name: string, { health, env, directory }: ServiceSettings, driver: ServiceDriver): HealthProbe | null {
  if (health === undefined) return null;
  const common = { timeoutMs: health.timeout_seconds * 1000 };
  const allowRemote = health.allow_remote;
  if (health.http !== undefined) {
    const contains = health.body === undefined ? {} : { contains: health.body };
    const { status = [200, 299] } = health;
    const range: [number, number] = typeof status === 'number' ? [status, status] : status;
    return createHttpProbe({ url: health.http, status: range, allowRemote, ...contains, ...common });
  }
  if (health.tcp !== undefined) {
    const cut = health.tcp.lastIndexOf(':');
    const host = health.tcp.slice(0, cut).replace(/^\[|\]$/g, '');
    return createTcpProbe({ host, port: Number(health.tcp.slice(cut + 1)), allowRemote, ...common });
  }
  if (health.log !== undefined) {
    const lines = (signal: AbortSignal) => driver.logs(name, { tail: LOG_TAIL, follow: false, signal });
    return createLogLineProbe({ match: { contains: health.log }, lines, ...common });
  }
  const cwd = directory === undefined ? {} : { cwd: directory };
  return createCommandProbe({ argv: health.command as [string, ...string[]], env, ...cwd, ...common });
}
