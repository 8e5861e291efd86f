/** Where the daemon is reached. */
import type { DockerOptions } from 'dockerode';

/** A daemon of this machine only: whoever reaches one is root there, and what it says of pids holds there only. */
export type DaemonAddress = { socketPath: string } | { host: string; port: number };

export function describeAddress(address: DaemonAddress): string {
  return 'socketPath' in address ? address.socketPath : `${address.host}:${address.port}`;
}

/** @throws TypeError for a host that is not this machine */
export function clientOptions(address: DaemonAddress): DockerOptions {
  if ('host' in address && !isLoopback(address.host)) {
    throw new TypeError(`The Docker daemon at ${describeAddress(address)} is not on this machine.`);
  }
  // What is not given here, dockerode takes from DOCKER_HOST and its kin: the configuration must win.
  const nothing = { host: undefined, port: undefined, socketPath: undefined, ca: undefined, cert: undefined };
  return {
    ...(nothing as DockerOptions),
    ...address,
    protocol: 'http',
    ...(ownConnections as DockerOptions),
  };
}

/**
 * One connection a request: an idle one that a restarted daemon has closed would fail the next request. By a header, not by
 * an agent of our own: dockerode prints its options, an agent's sockets included, into a debug line at each request, also
 * where nobody reads it, and that took most of a processor.
 */
const ownConnections = { headers: { Connection: 'close' } };

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}
