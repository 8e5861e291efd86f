import type { FaultBoard, FaultParams } from './faults.js';
import type { Card, GpuHost } from './gpuHost.js';

/** What the driver says about a card at one moment: the source of everything that nvidia-smi prints. */
export interface CardSample {
  readonly index: number;
  readonly uuid: string;
  readonly name: string;
  readonly totalMb: number;
  readonly reservedMb: number;
  readonly usedMb: number;
  readonly freeMb: number;
  readonly utilizationPercent: number;
  readonly temperatureC: number;
  readonly powerW: number;
  /** Null where the card does not tell, as in a laptop. */
  readonly fanPercent: number | null;
  readonly computeCapability: string;
}

/** A compute process on a card. */
export interface ProcessSample {
  readonly gpu: string;
  readonly pid: number;
  readonly name: string;
  readonly mb: number;
}

export interface GpuSample {
  readonly driverVersion: string;
  readonly cards: readonly CardSample[];
  readonly processes: readonly ProcessSample[];
  /** The faults of nvidia-smi that are set, by name. */
  readonly faults: Readonly<Record<string, FaultParams>>;
}

const DRIVER_VERSION = '570.124.06';
const BUSY_UTILIZATION_PERCENT = 93;
/** How much warmer a working card is than an idle one. */
const BUSY_WARMER_C = 24;
const IDLE_POWER_SHARE = 0.06;
const BUSY_POWER_SHARE = 0.78;

/** What the driver shows for the name of a process that is about to end, beside all of its memory (580 on an H200, 2026-11-26). */
const NAMELESS = '[No data]';

/** Everything that the driver says now. Graphics processes are in the used memory, but in no list. */
export function sampleOf(gpuHost: GpuHost, faults: FaultBoard): GpuSample {
  const listed = gpuHost.processes.filter(({ listed, kind }) => listed && kind !== 'graphics' && kind !== 'driver');
  const processes = gpuHost.cards.flatMap((card) =>
    listed.flatMap(({ holder, pid, name, ended }) => {
      const mb = card.holdings.get(holder) ?? 0;
      return mb > 0 ? [{ gpu: card.spec.uuid, pid, name: ended ? NAMELESS : name, mb }] : [];
    }),
  );
  const smiFaults = faults.list().filter(({ name }) => name.startsWith('smi-'));
  return {
    driverVersion: DRIVER_VERSION,
    cards: gpuHost.cards.map((card) => cardSample(card, gpuHost)),
    processes,
    faults: Object.fromEntries(smiFaults.map(({ name, params }) => [name, params])),
  };
}

function cardSample(card: Card, gpuHost: GpuHost): CardSample {
  const { uuid, name, totalMb, reservedMb, computeCapability, idleTemperatureC, powerLimitW } = card.spec;
  const isBusy = card.busy > 0;
  const temperatureC = card.temperatureC ?? idleTemperatureC + (isBusy ? BUSY_WARMER_C : 0);
  return {
    index: card.index,
    uuid,
    name,
    totalMb,
    reservedMb,
    usedMb: gpuHost.usedMb(card),
    freeMb: gpuHost.freeMb(card),
    utilizationPercent: card.utilizationPercent ?? (isBusy ? BUSY_UTILIZATION_PERCENT : 0),
    temperatureC,
    powerW: powerLimitW * (isBusy ? BUSY_POWER_SHARE : IDLE_POWER_SHARE),
    fanPercent: name.includes('Laptop') ? null : Math.max(0, Math.min(100, (temperatureC - 40) * 2)),
    computeCapability,
  };
}
