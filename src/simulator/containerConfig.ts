import { DockerError } from './errors.js';
import type { Card } from './gpuHost.js';

/** What somebody asked for when the container was made, as Docker's API has it. */
export interface ContainerConfig {
  readonly Image: string;
  readonly Cmd: readonly string[];
  readonly Env: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly HostConfig: {
    readonly PortBindings?: Readonly<Record<string, readonly { HostIp?: string; HostPort?: string }[]>>;
    readonly DeviceRequests?: readonly { Driver?: string; Count?: number; DeviceIDs?: readonly string[] }[];
  };
}

/**
 * The card that Docker hands out, by UUID; null for none. One that sees all cards, as those made by others do, takes the first.
 * @throws {DockerError} in the words of Docker, for a card that is not there
 */
export function gpuFor({ HostConfig: { DeviceRequests } }: ContainerConfig, cards: readonly Card[]): string | null {
  if (DeviceRequests === undefined) return cards[0]?.spec.uuid ?? null;
  const asked = DeviceRequests.flatMap(({ DeviceIDs, Count }) => DeviceIDs ?? (Count === -1 ? ['all'] : [])).map((id) =>
    id.replace('nvidia.com/gpu=', ''),
  );
  if (asked.length > 0 && cards.length === 0) {
    throw new DockerError(500, 'could not select device driver "nvidia" with capabilities: [[gpu]]');
  }
  if (asked.includes('all')) return cards[0]?.spec.uuid ?? null;
  const unknown = asked.find((uuid) => cards.every(({ spec }) => spec.uuid !== uuid));
  if (unknown !== undefined) {
    const hook = `nvidia-container-cli: device error: ${unknown}: unknown device`;
    throw new DockerError(500, `failed to create shim task: ${hook}`);
  }
  return asked[0] ?? null;
}

/** The ports of loopback under which its page is reached: those it is published to, or `own`. */
export function portsOf({ HostConfig: { PortBindings } }: ContainerConfig, own: number | null): number[] {
  if (PortBindings === undefined) return own === null ? [] : [own];
  return Object.values(PortBindings).flatMap((each) => each.map(({ HostPort }) => Number(HostPort)));
}
