import { CPU } from '../contracts/names.js';
import type { TenantObservation } from '../contracts/residency.js';
import type { StateFile } from './stateFile.js';

/** What was seen of a tenant on some GPUs. Each figure is there once it was measured. MB as MiB. */
export interface Footprint {
  /** On GPUs once loaded. */
  chargeMb?: number;
  /** At the most while it loaded. */
  peakMb?: number;
  /** A moving mean of load times. */
  loadMs?: number;
  /** A moving mean of the times that an unload or a stop took, the proof included. */
  stopMs?: number;
  /** What the configuration said that it takes. With another figure its memory is learned anew; the times stay. */
  declaredMb?: number;
}

/** How much a new time moves the mean. */
const WEIGHT = 0.5;

/**
 * Footprints and times as measured, by tenant and the GPUs that it was on. A former version kept them by tenant alone:
 * such an entry counts as seen on GPUs that nobody knows.
 */
export class Learned {
  /** What was learned last comes last. */
  private footprints: Record<string, Footprint>;
  private writeProblem: string | null = null;

  constructor(private readonly file: StateFile<Record<string, Footprint>>) {
    this.footprints = file.get();
  }

  /**
   * Ollama and CLIP allocate all at load, so the last measurement counts.
   * @param gpus that it is on, none for the CPU; null: it is nowhere. What was not measured there is as last seen elsewhere.
   * @param declaredMb what the configuration says now that it takes
   */
  get(tenant: string, gpus: readonly string[] | null, declaredMb?: number): Footprint {
    const here = (gpus === null ? null : this.footprints[keyOf(tenant, gpus)]) ?? {};
    const elsewhere = this.of(tenant).map(([, footprint]) => footprint);
    return Object.assign({}, ...[...elsewhere, here].map((each) => knownWith(each, declaredMb))) as Footprint;
  }

  /** The most that it was seen to take, on whichever GPUs; 0: nothing was seen yet. */
  mostMb(tenant: string, declaredMb?: number): number {
    return Math.max(0, ...this.of(tenant).map(([, footprint]) => knownWith(footprint, declaredMb).chargeMb ?? 0));
  }

  /** What a plan expects, as far as it was measured. */
  times(tenant: string, gpus: readonly string[] | null): Pick<TenantObservation, 'stopMs' | 'loadMsOn'> {
    const { stopMs } = this.get(tenant, gpus);
    const loads = this.of(tenant).flatMap(([key, { loadMs }]) => {
      const place = key.slice(prefixOf(tenant).length);
      return place === '' || loadMs === undefined ? [] : [[place, loadMs] as const];
    });
    return {
      ...(stopMs === undefined ? {} : { stopMs }),
      ...(loads.length === 0 ? {} : { loadMsOn: Object.fromEntries(loads) }),
    };
  }

  record(tenant: string, gpus: readonly string[], measured: Footprint): void {
    const key = keyOf(tenant, gpus);
    const { [key]: known = {}, ...others } = this.footprints;
    this.footprints = { ...others, [key]: joined(knownWith(known, measured.declaredMb), measured) };
    try {
      this.file.set(this.footprints);
      this.writeProblem = null;
    } catch (error) {
      this.writeProblem = `footprints cannot be written: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Why they are not on disk, or null; they are written again with the next one. */
  problem(): string | null {
    return this.writeProblem;
  }

  private of(tenant: string): [key: string, footprint: Footprint][] {
    return Object.entries(this.footprints).filter(([key]) => key === tenant || key.startsWith(prefixOf(tenant)));
  }
}

/** No name of a tenant holds a blank. */
const prefixOf = (tenant: string): string => `${tenant} on `;

const keyOf = (tenant: string, gpus: readonly string[]): string =>
  `${prefixOf(tenant)}${gpus.length === 0 ? CPU : [...gpus].sort().join('+')}`;

/** What counts of it with this declared figure; all, where either is not known. A former version kept none. */
function knownWith(footprint: Footprint, declaredMb: number | undefined): Footprint {
  if (declaredMb === undefined || (footprint.declaredMb ?? declaredMb) === declaredMb) return footprint;
  const { chargeMb: _charge, peakMb: _peak, declaredMb: _former, ...times } = footprint;
  return times;
}

function joined(known: Footprint, measured: Footprint): Footprint {
  const result = { ...known, ...measured };
  for (const time of ['loadMs', 'stopMs'] as const) {
    const [before, now] = [known[time], measured[time]];
    if (before !== undefined && now !== undefined) result[time] = Math.round(before * (1 - WEIGHT) + now * WEIGHT);
  }
  return result;
}
