/** Native services of small scripts for tests; whatever a test leaves running is ended. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';

import { vi } from 'vitest';

import { createNativeDriver, type NativeDriverOptions } from '../../../src/adapters/native/driver.js';
import { type NativeDetails, nativeDetails } from '../../../src/adapters/native/ownedRun.js';
import type { NativeService } from '../../../src/adapters/native/service.js';
import { createRecordStore, type RecordStore } from '../../../src/adapters/processes/records.js';
import type { ServiceChange, ServiceDriver, ServiceSight } from '../../../src/adapters/services/driver.js';
import { tempFolder, tidyLater } from '../processes/owned.js';

export const IDLE = 'setInterval(() => {}, 1000);';
export const DEAF = `process.on("SIGTERM", () => console.log("heard")); ${IDLE}`;

/** A line of JavaScript as a service. */
export const script = (code: string, rest: Partial<NativeService> = {}): NativeService => ({
  name: 'one',
  argv: [process.execPath, '-e', code],
  ...rest,
});

export interface TestDriver {
  driver: ServiceDriver;
  changes: ServiceChange[];
  stateDir: string;
  start(gpus?: string[]): Promise<ServiceSight>;
  stop(graceMs?: number): Promise<'stopped' | 'stuck'>;
  /** After a look. */
  sight(): Promise<ServiceSight>;
  printed(text: string): Promise<string>;
  store: RecordStore<NativeDetails>;
}

export const never = (): AbortSignal => new AbortController().signal;

/** A driver of one service, which a later one of the same `stateDir` takes over from. */
export async function driverOf(
  service: NativeService,
  options: Partial<Omit<NativeDriverOptions, 'services'>> = {},
): Promise<TestDriver> {
  const stateDir = options.stateDir ?? (await tempFolder());
  // These tests may run in a container: it lives as long as they do.
  const driver = createNativeDriver({ owning: { ok: true }, ...options, stateDir, services: [service] });
  const changes: ServiceChange[] = [];
  driver.onChange((change) => changes.push(change));
  const folder = join(stateDir, encodeURIComponent(service.name));
  tidyLater(async () => {
    await driver.stop(service.name, { graceMs: 0, signal: never() }).catch(() => undefined);
    await driver.close();
  });
  return {
    driver,
    changes,
    stateDir,
    store: createRecordStore(folder, nativeDetails),
    start: (gpus = []) => driver.start(service.name, { gpus, signal: never() }),
    stop: (graceMs = 5_000) => driver.stop(service.name, { graceMs, signal: never() }),
    async sight() {
      await driver.look(never());
      const [sight] = driver.sights();
      if (sight === undefined) throw new Error(`no sight of ${service.name}`);
      return sight;
    },
    printed: (text) => vi.waitFor(() => lineWith(driver, service.name, text), { timeout: 15_000, interval: 20 }),
  };
}

async function lineWith(driver: ServiceDriver, service: string, text: string): Promise<string> {
  for await (const line of driver.logs(service, { tail: 1000, follow: false, signal: never() })) {
    if (line.includes(text)) return line;
  }
  throw new Error(`${service} does not say ${text} yet`);
}

/** A port on loopback that this process listens on until the test's end. */
export async function takenPort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  tidyLater(() => void server.close());
  return (server.address() as { port: number }).port;
}
