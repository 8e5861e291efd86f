import { isIP } from 'node:net';

/**
 * Health checks stay on this machine unless the configuration says otherwise: one that is pointed elsewhere by mistake
 * would tell of another machine's service.
 * @throws RangeError for a host that is not loopback
 */
export function checkHost(host: string, allowRemote: boolean): void {
  if (allowRemote || isLoopback(host)) return;
  throw new RangeError(`${host} is not on this machine; a health check elsewhere must be allowed.`);
}

function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (isIP(bare) === 4) return bare.startsWith('127.');
  return bare === '::1' || bare === 'localhost';
}
