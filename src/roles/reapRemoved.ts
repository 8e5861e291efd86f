/** P8: a service that was taken out of the configuration while it ran is found by proof, ended, and told of. */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from 'pino';
import { reapRemovedContainers } from '../adapters/docker/reap.js';
import { reapRemovedServices } from '../adapters/native/reap.js';
import type { Reaped } from '../adapters/services/driver.js';
import type { Journal } from '../agent/journal.js';
import type { Config } from '../config/schema.js';
import { serviceTenant } from '../contracts/names.js';
import { nativeFolder } from './buildServices.js';

/** How long it was allowed to take is no longer in the configuration. */
const GRACE_MS = 10_000;
/** A Docker that services need, but that is away, is asked again after so long. */
const DOCKER_RETRY_MS = 5_000;

interface Host {
  config: Pick<Config, 'host' | 'services' | 'docker'>;
  /** Of this host's agent. */
  folder: string;
  journal: Journal;
  log: Logger;
  signal: AbortSignal;
}

/** Resolves when the native ones have ended, and those in containers as far as Docker answers. */
export async function reapRemoved(host: Host): Promise<void> {
  await Promise.all([
    reapNative(host).catch((error: unknown) => {
      host.log.warn({ error: String(error) }, 'services that were removed could not be looked for');
    }),
    reapContainers(host),
  ]);
}

async function reapNative(host: Host): Promise<void> {
  const { config, folder, signal } = host;
  const configured = namesOf(config, ({ run }) => run !== undefined);
  const stateDir = nativeFolder(folder);
  tell(host, await reapRemovedServices({ stateDir, configured, graceMs: GRACE_MS, signal }));
}

async function reapContainers(host: Host): Promise<void> {
  const { config, log, signal } = host;
  const configured = namesOf(config, ({ image }) => image !== undefined);
  const daemon = { socketPath: config.docker.socket };
  try {
    tell(host, await reapRemovedContainers({ daemon, owner: config.host, configured, graceMs: GRACE_MS, signal }));
  } catch (error) {
    log.debug({ error: String(error) }, 'Docker could not be asked for the containers of removed services');
    // Where no service needs Docker, there may be none on this machine.
    if (namesOf(config, ({ run }) => run === undefined).length === 0 || signal.aborted) return;
    void pause(DOCKER_RETRY_MS, undefined, { signal }).then(
      () => reapContainers(host),
      () => {}, // The agent ends.
    );
  }
}

const namesOf = (config: Host['config'], which: (service: Config['services'][string]) => boolean): string[] =>
  Object.entries(config.services)
    .filter(([, service]) => which(service))
    .map(([name]) => name);

function tell({ journal, log }: Host, reaped: Reaped[]): void {
  for (const { service, pids, result } of reaped) {
    const what = `${service} ran, and is no longer in the configuration`;
    const message =
      result === 'stopped'
        ? `${what}: it was stopped`
        : `${what}: it could not be stopped by proof; end process ${pids.join(', ')} by hand if it is yours`;
    log.warn({ service, pids, result }, message);
    const type = result === 'stopped' ? 'service_stopped' : 'warning';
    journal.append({ type, subject: serviceTenant(service), message, details: { pids } });
  }
}
