/** What is promised to leases, on the agent's disk; whatever happens to a lease's workflow, its end counts here. */
import type { GpuSample } from '../adapters/gpu/reader.js';
import type { Reservation } from '../contracts/lease.js';
import { reservationTenant } from '../contracts/names.js';
import type { TenantObservation } from '../contracts/residency.js';
import { reservationOf } from '../domain/reservations.js';
import type { StateFile } from './stateFile.js';

/** Whoever ends a lease does so in time; this long after its end, or after the grace of its revocation, the agent does by itself. */
const LATE_MS = 5_000;

export class Reservations {
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly file: StateFile<Record<string, Reservation>>,
    /** Epoch ms. */
    private readonly now: () => number,
    /** The processes of a lease's holder, itself and its descendants, as last seen. */
    private readonly pidsOf: (pid: number) => number[],
  ) {}

  get(id: string): Reservation | null {
    const found = this.file.get()[id];
    if (found === undefined) return null;
    // Its holder was told so, whatever became of the operation that asked for it.
    const endsAtMs = Math.min(found.expiresAtMs, found.revokedUntilMs ?? Number.POSITIVE_INFINITY);
    return endsAtMs + LATE_MS > this.now() ? found : null;
  }

  all(): Reservation[] {
    return Object.keys(this.file.get()).flatMap((id) => this.get(id) ?? []);
  }

  put(reservation: Reservation): void {
    const live = Object.fromEntries(this.all().map((one) => [one.id, one]));
    this.file.set({ ...live, [reservation.id]: reservation });
    this.wake();
  }

  remove(id: string): void {
    const { [id]: _, ...others } = this.file.get();
    this.file.set(others);
    this.wake();
  }

  /** @returns how to stop listening */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** As tenants: what the holder's processes are seen to hold; a holder that nobody knows holds as a stranger, too. */
  observe(sample: GpuSample): TenantObservation[] {
    return this.all().map((one) => {
      const pids = one.pid === null ? [] : this.pidsOf(one.pid);
      const used = (gpu: string): number =>
        (sample.processes ?? [])
          .filter(({ uuid, pid }) => uuid === gpu && pids.includes(pid))
          .reduce((sum, { usedMb }) => sum + (usedMb ?? 0), 0);
      return reservationOf(one, one.chargeMb, {
        state: one.revokedUntilMs === null ? 'resident' : 'unloading',
        holdings: one.gpus.map((device) => ({
          device,
          mb: used(device),
          promisedMb: one.chargesMb?.[device] ?? one.chargeMb,
        })),
        residentForMs: this.now() - one.grantedAtMs,
      });
    });
  }

  pids(tenant: string): number[] {
    const one = this.all().find(({ id }) => reservationTenant(id) === tenant);
    return one?.pid == null ? [] : this.pidsOf(one.pid);
  }

  /** Whether it is of any lease's holder. */
  owns(pid: number): boolean {
    return this.all().some((one) => one.pid !== null && this.pidsOf(one.pid).includes(pid));
  }

  private wake(): void {
    for (const listener of this.listeners) listener();
  }
}
