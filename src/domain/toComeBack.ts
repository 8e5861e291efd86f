/** What the end of a service has to give back, per GPU. Pure. */

export interface ComingBack {
  device: string;
  mb: number;
  /** True: the list does not tell, it is the most that it may hold. */
  atMost: boolean;
}

/**
 * What the list shows for its processes. A list that is missing, or a figure that is, never means "nothing" (law 1): there
 * it is what the service is charged, shared by the GPUs that it may use.
 * @param on the GPUs that it was put on
 * @param processes the driver's list; null: not known
 */
export function toComeBack(
  { on, chargeMb, ownPids }: { on: string[]; chargeMb: number; ownPids: number[] },
  processes: readonly { uuid: string; pid: number; usedMb: number | null }[] | null,
): ComingBack[] {
  const own = processes?.filter(({ pid }) => ownPids.includes(pid)) ?? null;
  const devices = [...new Set([...on, ...(own ?? []).map(({ uuid }) => uuid)])];
  return devices.flatMap((device) => {
    const figures = own?.filter(({ uuid }) => uuid === device).map(({ usedMb }) => usedMb) ?? [null];
    const listedMb = figures.reduce<number>((sum, mb) => sum + (mb ?? 0), 0);
    const atMost = figures.includes(null);
    const mb = atMost ? Math.max(listedMb, Math.ceil(chargeMb / devices.length)) : listedMb;
    return mb > 0 ? [{ device, mb, atMost }] : [];
  });
}
