/** Where a Temporal server comes from: a chain of links, asked in order until one has it. */
import type { Binary } from './binary.js';
import { EmbeddedServerError } from './errors.js';
import { GO_PACKAGE } from './pins.js';

export type FoundServer =
  /** Somebody else's server: used as it is. */
  { kind: 'address'; address: string } | ({ kind: 'binary' } & Binary);

export type LinkResult = { found: FoundServer } | { reason: string };

export interface Link {
  /** As it stands in an error: "the PATH", "the cache". */
  name: string;
  try(signal?: AbortSignal): Promise<LinkResult>;
}

/**
 * The first link's answer that has a server.
 * @throws EmbeddedServerError `no-server` with the reason of every link
 */
export async function findServer(links: readonly Link[], signal?: AbortSignal): Promise<FoundServer> {
  const reasons: string[] = [];
  for (const link of links) {
    signal?.throwIfAborted();
    const result = await link.try(signal);
    if ('found' in result) return result.found;
    reasons.push(`  ${link.name}: ${result.reason}`);
  }
  throw new EmbeddedServerError(
    'no-server',
    `No Temporal server was found, and none could be fetched:\n${reasons.join('\n')}`,
    `Run \`go install ${GO_PACKAGE}\` with a recent Go and put the result on the PATH, ` +
      'or give the address of a running server: VRAMFLOW_TEMPORAL_ADDRESS=host:port',
  );
}
