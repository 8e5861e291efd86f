import { type Clock, SystemClock } from './clock.js';
import type { Containers } from './containers.js';
import type { Embedders } from './embedders.js';
import { FAULTS, type FaultBoard } from './faults.js';
import type { GpuHost } from './gpuHost.js';
import type { OllamaService } from './ollamaService.js';
import type { Preset } from './presets.js';
import type { Recorder } from './recorder.js';
import { sampleOf } from './sample.js';
import type { Services } from './services.js';

/** The parts that the admin endpoint shows and drives. */
export interface SimulatorParts {
  readonly preset: string;
  readonly seed: number;
  readonly clock: Clock;
  readonly recorder: Recorder;
  readonly faults: FaultBoard;
  readonly gpuHost: GpuHost;
  readonly ollama: OllamaService;
  readonly embedders: Embedders;
  readonly services: Services;
  readonly containers: Containers;
}

/** The whole simulated host as it is now. */
export function describeState(parts: SimulatorParts, preset: Preset): object {
  const { clock, gpuHost, faults, ollama, embedders, containers } = parts;
  const processes = gpuHost.processes.map(({ holder, pid, name, kind, listed, ended }) => {
    const mb = gpuHost.cards.map((card) => [card.spec.uuid, card.holdings.get(holder) ?? 0] as const);
    return { holder, pid, name, kind, listed, ended, mb: Object.fromEntries(mb.filter(([, held]) => held > 0)) };
  });
  return {
    simulated: true,
    preset: parts.preset,
    seed: parts.seed,
    speed: clock instanceof SystemClock ? clock.speed : null,
    atMs: clock.now(),
    cards: sampleOf(gpuHost, faults).cards,
    processes,
    ollama: {
      url: ollama.url,
      running: ollama.running,
      known: preset.models.map(({ name, sizeMb }) => ({ name, sizeMb })),
      loaded: ollama.runners.map((runner) => ({
        name: runner.model.name,
        pid: runner.process.pid,
        loading: runner.loading,
        crashed: runner.dead.aborted,
        requests: runner.refs,
        sizeMb: runner.placement.sizeMb,
        vramMb: runner.placement.vramMb,
        expiresAt: expiry(runner.expiresAtMs, clock),
      })),
    },
    containers: containers.all.map(({ state: { name, config, pid, isUp, exitCode } }) => ({
      name,
      image: config.Image,
      pid,
      isUp,
      exitCode,
    })),
    settings: {
      reclaimMs: gpuHost.reclaimMs,
      embedderMb: embedders.mb,
      maxLoadedModels: ollama.maxLoadedModels,
    },
    faults: faults.list(),
  };
}

/** Which faults are set, and which there are. */
export function describeFaults(faults: FaultBoard): object {
  const known = Object.entries(FAULTS).map(([name, { summary, params }]) => ({
    name,
    summary,
    params: Object.keys(params),
  }));
  return { active: faults.list(), known };
}

function expiry(atMs: number | null, clock: Clock): string | null {
  return atMs === null || !Number.isFinite(atMs) ? null : clock.dateOf(atMs).toISOString();
}
