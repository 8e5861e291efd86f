/** The services of a configuration as the simulator plays them: what they hold, how long they take, their pages. Pure. */
import type { Config, ServiceSettings } from './schema.js';

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
    health: pageOf(health),
  };
}

/** A page on loopback, or a port that takes connections. */
function pageOf(health: ServiceSettings['health']): { port: number; path: string } | null {
  if (health?.http !== undefined) {
    const { port, pathname, protocol } = new URL(health.http);
    return { port: Number(port || (protocol === 'https:' ? 443 : 80)), path: pathname };
  }
  if (health?.tcp !== undefined) return { port: Number(health.tcp.slice(health.tcp.lastIndexOf(':') + 1)), path: '/' };
  return null;
}
