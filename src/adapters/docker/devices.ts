/** Which GPUs Docker gives a container, as its inspection says it. */
import type { ContainerInspectInfo, DeviceRequest } from 'dockerode';

/**
 * Of a container that others made: UUIDs (or their beginnings) and indexes, as nvidia-smi has them. `all` also where
 * nothing says which: it may use any (law 1).
 */
export function givenTo({ HostConfig, Config }: Pick<ContainerInspectInfo, 'HostConfig' | 'Config'>): string[] | 'all' {
  const requests = HostConfig.DeviceRequests ?? [];
  const asked = requests.length > 0 ? requests.flatMap(askedFor) : visibleTo(Config.Env);
  const ids = asked.map((id) => id.trim().replace(/^nvidia\.com\/gpu=/, ''));
  return ids.length > 0 && ids.every((id) => /^(?:\d+|GPU-[\w-]+)$/.test(id)) ? ids : 'all';
}

/** A count stands for so many, from the first on; −1 for all. */
function askedFor({ DeviceIDs, Count = 0 }: DeviceRequest): string[] {
  if (DeviceIDs && DeviceIDs.length > 0) return DeviceIDs;
  return Count > 0 ? Array.from({ length: Count }, (_, index) => String(index)) : ['all'];
}

/** How NVIDIA's own runtime is told, where Docker is not asked for devices. */
function visibleTo(env: readonly string[] | null): string[] {
  const prefix = 'NVIDIA_VISIBLE_DEVICES=';
  return (env?.findLast((line) => line.startsWith(prefix)) ?? '').slice(prefix.length).split(',');
}
