/** Containers that vramflow made for services that are no longer in the configuration: their labels prove them ours. */
import type { Reaped } from '../services/driver.js';
import type { DaemonAddress } from './address.js';
import { LABELS } from './creation.js';
import { createDaemon } from './daemon.js';
import { createSupervised } from './supervised.js';

interface ReapOptions {
  daemon: DaemonAddress;
  owner: string;
  /** The services of the configuration for which vramflow makes containers. */
  configured: readonly string[];
  graceMs: number;
  signal: AbortSignal;
}

/** Stops them; they stay, with what they have written. @returns what ran @throws NoAnswer when the daemon is away */
export async function reapRemovedContainers(options: ReapOptions): Promise<Reaped[]> {
  const { owner, configured, graceMs, signal } = options;
  const daemon = createDaemon(options.daemon);
  const running = await daemon.runningWith(LABELS.owner, owner, signal);
  const removed = running.flatMap(({ id, labels }) => {
    const service = labels[LABELS.service];
    const isOurs = labels[LABELS.owner] === owner && service !== undefined;
    return isOurs && !configured.includes(service) ? [{ id, service }] : [];
  });
  return Promise.all(
    removed.map(async ({ id, service }): Promise<Reaped> => {
      // By its id: no other container will ever have it.
      const container = { name: service, container: id };
      const supervised = createSupervised(container, {
        daemon,
        owner,
        now: Date.now,
        onChange: () => {},
        closed: signal,
      });
      await supervised.look(signal);
      const { pids } = supervised.sight();
      return { service, pids, result: await supervised.stop(graceMs, signal) };
    }),
  );
}
