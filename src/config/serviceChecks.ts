/** What the schema cannot say of services and phases. Pure. */
import type { Contradiction } from './crossChecks.js';
import { isLoopback } from './loopback.js';
import { nearest } from './nearest.js';
import type { Config, ServiceSettings } from './schema.js';

export function checkServices(config: Config): Contradiction[] {
  return [
    ...Object.entries(config.services).flatMap(([name, service]) => [
      ...checkKind(name, service),
      ...checkHealth(name, service),
    ]),
    ...Object.entries(config.phases).flatMap(([name, phase]) => {
      const services = Array.isArray(phase) ? phase : phase.services;
      const path = ['phases', name, ...(Array.isArray(phase) ? [] : ['services'])];
      return [
        ...checkNames(config, path, services),
        ...checkRoom(config, path, services),
        ...checkPorts(config, path, services),
      ];
    }),
    ...checkNumbers(config),
    ...checkServers(config),
  ];
}

const KINDS = ['run', 'container', 'image'] as const;
type Kind = (typeof KINDS)[number];
/** Keys that say something of some kinds only. */
const BELONGS: Partial<Record<keyof ServiceSettings, readonly Kind[]>> = {
  directory: ['run'],
  adopt: ['run'],
  command: ['image'],
  mounts: ['image'],
  gpu_access: ['image'],
  env: ['run', 'image'],
};

function checkKind(name: string, service: ServiceSettings): Contradiction[] {
  const path = ['services', name];
  const kinds = KINDS.filter((kind) => service[kind] !== undefined);
  if (kinds.length === 0) {
    const message = 'does not say what it is.';
    return [{ path, message, remedy: 'Set run (a program), container (one that exists) or image (one to create).' }];
  }
  if (kinds.length > 1) {
    const message = `is ${kinds.join(' and ')} at once.`;
    return [{ path: [...path, kinds[1] ?? ''], message, remedy: 'Keep one of them.' }];
  }
  const [kind] = kinds as [Kind];
  // A check by a program gets the environment too, whatever the service is.
  const isForCheck = (key: string) => key === 'env' && service.health?.command !== undefined;
  return Object.entries(BELONGS)
    .filter(([key, belongs]) => !belongs.includes(kind) && isSaid(service[key as keyof ServiceSettings]))
    .filter(([key]) => !isForCheck(key))
    .map(([key, belongs]) => ({
      path: [...path, key],
      message: `belongs to a service with ${belongs.join(' or ')}, and this one has ${kind}.`,
      remedy: 'Remove it.',
    }));
}

/** Maps and lists that nobody wrote are empty. */
const isSaid = (value: object | string | number | boolean | undefined): boolean =>
  typeof value === 'object' ? Object.keys(value).length > 0 : value !== undefined;

const CHECKS = ['http', 'tcp', 'log', 'command'] as const;

function checkHealth(name: string, { health }: ServiceSettings): Contradiction[] {
  if (health === undefined) return [];
  const path = ['services', name, 'health'];
  const checks = CHECKS.filter((check) => health[check] !== undefined);
  if (checks.length !== 1) {
    const message = checks.length === 0 ? 'says no check.' : `has ${checks.join(' and ')}: one is enough.`;
    return [{ path, message, remedy: 'Set one of http, tcp, log and command.' }];
  }
  const problems: Contradiction[] = [];
  for (const key of ['body', 'status'] as const) {
    if (health[key] === undefined || health.http !== undefined) continue;
    problems.push({ path: [...path, key], message: 'is for pages only.', remedy: 'Remove it, or check by http.' });
  }
  if (Array.isArray(health.status) && health.status[0] > health.status[1]) {
    const [first, last] = health.status;
    const message = `goes from ${first} down to ${last}: no answer is in it.`;
    problems.push({ path: [...path, 'status'], message, remedy: `Write [${last}, ${first}].` });
  }
  const host = health.http ? new URL(health.http).hostname : health.tcp?.slice(0, health.tcp.lastIndexOf(':'));
  if (host !== undefined && !isLoopback(host) && !health.allow_remote) {
    const key = health.http ? 'http' : 'tcp';
    const message = `is on ${host}, not on this machine.`;
    const remedy = 'Use 127.0.0.1, or set allow_remote: true beside it if that is meant.';
    problems.push({ path: [...path, key], message, remedy });
  }
  return problems;
}

function checkNames(config: Config, path: string[], services: string[]): Contradiction[] {
  return services.flatMap((name, index) => {
    const at = [...path, String(index)];
    if (services.indexOf(name) < index) return [{ path: at, message: `names ${name} twice.`, remedy: 'Remove one.' }];
    if (Object.hasOwn(config.services, name)) return [];
    if (Object.hasOwn(config.phases, name)) {
      const message = `names ${name}, which is a phase: a phase lists services, not other phases.`;
      return [{ path: at, message, remedy: `Write the services of ${name} here.` }];
    }
    const near = nearest(name, Object.keys(config.services));
    const remedy = near ? `Did you mean ${near}?` : 'Add it to services, or remove it here.';
    const message = `names ${name}, which is no service of this configuration.`;
    return [{ path: at, about: ['services', name], message, remedy }];
  });
}

/** A phase that can never be prepared is a mistake; only a declared total can show it before a start. */
function checkRoom(config: Config, path: string[], services: string[]): Contradiction[] {
  const total = config.gpu.total_mb;
  if (total === undefined) return [];
  const parts = services.map((name) => ({ name, mb: config.services[name]?.vram_mb ?? 0 }));
  const needed = parts.reduce((sum, { mb }) => sum + mb, config.reserve_mb);
  if (needed <= total) return [];
  const list = parts.map(({ name, mb }) => `${name} ${mb}`).join(' + ');
  const message = `needs ${needed} MB (${list} + reserve ${config.reserve_mb}), but gpu.total_mb is ${total}.`;
  return [{ path, message, remedy: 'Take a service out of this phase.' }];
}

/** Two services of one phase on one port: the second could never start. */
function checkPorts(config: Config, path: string[], services: string[]): Contradiction[] {
  const owners = new Map<number, string>();
  return services.flatMap((name, index) =>
    (config.services[name]?.ports ?? []).flatMap((port) => {
      const owner = owners.get(port);
      owners.set(port, owner ?? name);
      if (owner === undefined || owner === name) return [];
      const message = `puts ${owner} and ${name} together, and both listen on port ${port}.`;
      return [{ path: [...path, String(index)], message, remedy: 'Give one of them another port.' }];
    }),
  );
}

function checkNumbers(config: Config): Contradiction[] {
  const owners = new Map<number, string>();
  return Object.entries(config.phases).flatMap(([name, phase]) => {
    const number = Array.isArray(phase) ? undefined : phase.number;
    const own = number ?? (/^\d+$/.test(name) ? Number(name) : undefined);
    if (own === undefined) return [];
    const owner = owners.get(own);
    owners.set(own, owner ?? name);
    if (owner === undefined) return [];
    const message = `has the number ${own}, as ${owner} has.`;
    return [{ path: ['phases', name], message, remedy: 'Give one of them another number.' }];
  });
}

/** There is one ollama_endpoint, so one service is behind it. */
function checkServers({ services }: Config): Contradiction[] {
  const [first, ...others] = Object.keys(services).filter((name) => services[name]?.serves === 'ollama');
  return others.map((name) => ({
    path: ['services', name, 'serves'],
    message: `is ollama, and ${first} serves it already: there is one ollama_endpoint.`,
    remedy: 'Remove it from one of them.',
  }));
}
