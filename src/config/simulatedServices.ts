/** The services of a configuration as the simulator plays them: what they hold, how long they take, their pages. Pure. */
import { isLoopback } from './loopback.js';
import type { Config, ServiceSettings } from './schema.js';

export type Health = NonNullable<ServiceSettings['health']>;

/** What a simulated service takes until it is up: a second, and the time to fill its VRAM from a disk. */
const BOOT_MS = 1_000;
const FILL_MB_A_SECOND = 5_000;
const STOP_MS = 400;

/** The content of the simulator's `--services` file; null: the configuration has no service. */
export function simulatedServices({ services }: Pick<Config, 'services'>): object | null {
  const entries = Object.entries(services);
  if (entries.length === 0) return null;
  const natives = entries.filter(([, { run }]) => run !== undefined);
  const containers = entries.filter(([, { run }]) => run === undefined);
  return {
    programs: natives.map(([name, service]) => ({ name, ...shapeOf(service) })),
    containers: containers.map(([name, service]) => ({
      // One that vramflow creates is played by its image.
      name: service.container ?? `image-of-${name}`,
      image: service.image ?? `simulated/${service.container}`,
      // What Ollama holds, its simulated runners hold.
      ...(service.serves === 'ollama'
        ? { ...shapeOf({ ...service, vram_mb: 0 }), serves: 'ollama' }
        : shapeOf(service)),
    })),
  };
}

function shapeOf({ vram_mb: vramMb, health }: ServiceSettings) {
  return {
    vramMb,
    bootMs: BOOT_MS + Math.round((vramMb / FILL_MB_A_SECOND) * 1_000),
    stopMs: STOP_MS,
    health: health === undefined ? null : pageOf(health),
  };
}

/** What a service is checked by while the simulator plays it: its page or port, else the line that it prints when it is up. */
export function playedCheck(health: Health): { http: string } | { tcp: string } | { log: string } {
  const page = pageOf(health);
  if (page === null) return { log: ': ready' };
  const address = `127.0.0.1:${page.port}`;
  return health.tcp === undefined ? { http: `http://${address}${page.path}` } : { tcp: address };
}

/** A plain page on loopback, or a port of it that takes connections: no other is played. */
export function pageOf({ http, tcp }: Health): { port: number; path: string } | null {
  if (tcp !== undefined) {
    const cut = tcp.lastIndexOf(':');
    return isLoopback(tcp.slice(0, cut)) ? { port: Number(tcp.slice(cut + 1)), path: '/' } : null;
  }
  if (http === undefined) return null;
  const { protocol, hostname, port, pathname } = new URL(http);
  return protocol === 'http:' && isLoopback(hostname) ? { port: Number(port || 80), path: pathname } : null;
}
