import { once } from 'node:events';
import { connect } from 'node:net';

import { createProbe, type HealthProbe } from './check.js';
import { checkHost } from './loopback.js';

export interface TcpProbeOptions {
  port: number;
  /** 127.0.0.1 by default. */
  host?: string;
  /** Also hosts other than loopback; false by default. */
  allowRemote?: boolean;
  /** 10,000 by default. */
  timeoutMs?: number;
}

/** Well is whoever accepts a connection. @throws RangeError for a host that is not on this machine */
export function createTcpProbe({
  port,
  host = '127.0.0.1',
  allowRemote = false,
  timeoutMs,
}: TcpProbeOptions): HealthProbe {
  checkHost(host, allowRemote);
  return createProbe(async (signal) => {
    const socket = connect({ host, port });
    try {
      await once(socket, 'connect', { signal });
      return { ok: true, detail: `${host}:${port} accepts connections` };
    } finally {
      socket.on('error', () => {}).destroy();
    }
  }, timeoutMs);
}
