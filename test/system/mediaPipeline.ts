/** The services of the media pipeline (P12) as the simulator plays them, for tests that start and stop them. */
import { SERVICE_STATES } from '../../src/contracts/status.js';
import type { GpuProcess } from '../../src/simulator/gpuHost.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import { freePort } from '../parts/ports.js';
import type { System } from './system.js';

export interface ServiceFigures {
  vramMb: number;
  priority: number;
}

export const MEDIA: Record<string, ServiceFigures> = {
  comfyui: { vramMb: 20_480, priority: 100 },
  cosyvoice: { vramMb: 4_096, priority: 50 },
  vidi: { vramMb: 4_096, priority: 40 },
  server: { vramMb: 18_432, priority: 10 },
};

export const MEDIA_PHASES: Record<string, string[]> = {
  '2': ['vidi'],
  '3': ['cosyvoice'],
  '4': ['comfyui'],
  none: [],
};

/** As a configuration writes it; each service on a free port, with a page that says that it works. */
export async function servicesOf(
  figures: Record<string, ServiceFigures>,
  more: { service?: object; health?: object } = {},
): Promise<Record<string, object>> {
  const entries = Object.entries(figures);
  const ports = await Promise.all(entries.map(() => freePort()));
  return Object.fromEntries(
    entries.map(([name, { vramMb, priority }], index) => [
      name,
      {
        run: [name],
        ports: [ports[index]],
        vram_mb: vramMb,
        priority,
        health: { http: `http://127.0.0.1:${ports[index]}/health`, ...more.health },
        ...more.service,
      },
    ]),
  );
}

/** The live processes of a service, or of all: real ones, as the simulator sees them. */
export const livingServices = ({ simulator }: System, name?: string): GpuProcess[] =>
  simulator.gpuHost.processes.filter(
    (process) => process.kind === 'service' && !process.ended && (name === undefined || process.name === name),
  );

/** What the status says of each service, in the words of P2. */
export async function serviceStates(system: System): Promise<Record<string, string>> {
  const { tenants } = await system.status();
  const services = tenants.filter(({ kind }) => kind === 'service');
  return Object.fromEntries(services.map(({ id, state }) => [id.slice('service/'.length), SERVICE_STATES[state]]));
}

/** Law 6: services outlive their agent; those of a test end with it. Each is a child that the test's agent started. */
export async function stopWithServices(system: System): Promise<void> {
  await system.agent?.stop();
  for (const { pid } of livingServices(system)) process.kill(pid, 'SIGKILL');
  await system.stop();
}

/** The processes of services that the record saw start, oldest first. */
export const serviceStarts = (record: readonly RecordEntry[]): { name: string; pid: number; at: string }[] =>
  record.flatMap((entry) =>
    entry.kind === 'process-start' && entry.holderKind === 'service'
      ? [{ name: entry.name, pid: entry.pid, at: entry.at }]
      : [],
  );
