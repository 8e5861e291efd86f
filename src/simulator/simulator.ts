import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startAdminApi } from './adminApi.js';
import { type Clock, SystemClock } from './clock.js';
import { Containers } from './containers.js';
import { DockerServer } from './dockerServer.js';
import { dockerSocket } from './dockerSocket.js';
import { Embedders } from './embedders.js';
import { unknownName } from './errors.js';
import { FaultBoard } from './faults.js';
import { GpuHost, type GpuProcess } from './gpuHost.js';
import { OllamaRunner, type RunnerDependencies } from './ollamaRunner.js';
import { OllamaService } from './ollamaService.js';
import { PRESETS } from './presets.js';
import { seededRandom } from './random.js';
import type { RecordEntry } from './record.js';
import { Recorder } from './recorder.js';
import { Services } from './services.js';
import { readServicesFile } from './servicesFile.js';
import { readState, type SavedState, writeState } from './stateFile.js';

/** More than can have been recorded between two saves. */
const SEQ_GAP = 100_000;

export interface SimulatorOptions {
  /** One of `PRESETS`. */
  readonly preset: string;
  /** How many times faster than real time; 1 by default. Divides every duration of the simulated host. */
  readonly speed?: number;
  /** Of the jitter; 1 by default. */
  readonly seed?: number;
  /** Of the admin endpoint; 0, the default, takes any free one. */
  readonly port?: number;
  readonly portOllama?: number;
  /** Where what is resident is kept over a restart; without it each start is fresh. */
  readonly stateFile?: string;
  /** A file that says which services can be played; none without it. */
  readonly servicesFile?: string;
  /** For tests in process; real time at `speed` by default. */
  readonly clock?: Clock;
}

/** What a started simulator prints: where it is, and the commands that stand for nvidia-smi, the embedder and any native service. */
export interface SimulatorInfo {
  readonly admin: string;
  readonly ollama: string;
  /** The path of the Docker daemon's socket. */
  readonly docker: string;
  readonly nvidiaSmi: readonly string[];
  readonly embedder: readonly string[];
  /** `--name <program>` chooses which one of the services file it plays. */
  readonly service: readonly string[];
  readonly preset: string;
  readonly pid: number;
}

/** A running simulator with its parts, for tests in process. */
export interface RunningSimulator {
  readonly info: SimulatorInfo;
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
  /** What happened since the start, for the judge in record.ts. */
  record(): readonly RecordEntry[];
  /** Ends it; with a state file, what was resident is kept there. */
  stop(): Promise<void>;
}

/**
 * Starts a simulated GPU host.
 * @throws {BadRequest} for an unknown preset or a services file that is none, the system's error for a port in use.
 */
export async function startSimulator(options: SimulatorOptions): Promise<RunningSimulator> {
  const preset = PRESETS[options.preset] ?? unknownName('preset', options.preset, Object.keys(PRESETS));
  const { stateFile, servicesFile, seed = 1, speed = 1 } = options;
  const played = servicesFile === undefined ? { programs: [], containers: [] } : readServicesFile(servicesFile);
  const saved = stateFile === undefined ? null : readState(stateFile);
  const clock = options.clock ?? new SystemClock(speed);
  // Entries after the last save are lost in a kill; the numbers go on well above theirs, so that none comes twice.
  const recorder = new Recorder(clock, saved === null ? 0 : saved.lastSeq + SEQ_GAP);
  const cards = preset.cards.map(({ uuid, totalMb }) => ({ gpu: uuid, totalMb }));
  recorder.add({ kind: 'start', preset: options.preset, seed, speed, cards });
  const faults = new FaultBoard(clock, recorder);
  const random = seededRandom(seed);
  const gpuHost = new GpuHost(preset.cards, { clock, random, recorder, faults });
  const dependencies: RunnerDependencies = { clock, random, recorder, faults, gpuHost };
  const embedders = new Embedders(dependencies);
  const services = new Services(dependencies, played.programs);
  let keep = (): void => {};
  const ollama = new OllamaService(dependencies, preset.models, options.portOllama ?? 0, () => keep());
  const runners = () => ollama.runners.map(({ process }) => process.pid);
  const containers = new Containers(dependencies, played.containers, () => keep(), runners);
  const socket = dockerSocket(stateFile);
  const docker = new DockerServer(socket.path, { ...dependencies, containers });

  if (saved !== null) {
    const processes = restore(saved, options.preset, dependencies, ollama);
    await containers.restore(saved.containers ?? [], processes);
    embedders.superviseRestored();
    services.superviseRestored();
  } else {
    for (const { gpu, mb, kind, name } of preset.foreign) {
      gpuHost.resize(gpuHost.startProcess(kind, name), gpuHost.card(gpu).spec.uuid, mb);
    }
  }
  if (stateFile !== undefined) {
    keep = () => writeState(stateFile, stateOf(options.preset, { ...dependencies, ollama, containers }));
    gpuHost.onChange(() => keep());
    faults.onChange(() => keep());
    keep();
  }
  await ollama.start();
  if (played.containers.some(({ serves }) => serves !== null)) await runInside(containers, ollama);
  await docker.start();

  const parts = {
    preset: options.preset,
    seed,
    clock,
    recorder,
    faults,
    gpuHost,
    ollama,
    embedders,
    services,
    containers,
  };
  const admin = await startAdminApi(parts, preset, options.port ?? 0).catch(async (error: unknown) => {
    await Promise.all([ollama.stop(false), docker.stop()]);
    throw error;
  });
  return {
    ...parts,
    info: {
      admin: admin.url,
      ollama: ollama.url,
      docker: docker.socketPath,
      nvidiaSmi: executable('nvidiaSmi', admin.url),
      embedder: executable('embedder', admin.url),
      service: executable('service', admin.url),
      preset: options.preset,
      pid: process.pid,
    },
    record: () => recorder.entries,
    stop: async () => {
      keep = () => {};
      gpuHost.stop();
      await Promise.all([ollama.stop(false), docker.stop(), containers.close(), admin.close()]);
      socket.remove();
    },
  };
}

/** Ollama begins and ends with the container that it runs in. */
async function runInside(containers: Containers, ollama: OllamaService): Promise<void> {
  containers.watch(({ Action, Actor }) => {
    if (!containers.serves(Actor.Attributes.image ?? '')) return;
    if (Action === 'start') void ollama.start();
    if (Action === 'die') void ollama.stop(false);
  });
  const runs = containers.all.some(({ isRunning, state }) => isRunning && containers.serves(state.config.Image));
  if (!runs) await ollama.stop(false);
}

function stateOf(
  preset: string,
  parts: RunnerDependencies & { ollama: OllamaService; containers: Containers },
): SavedState {
  const { clock, faults, gpuHost, recorder, ollama, containers } = parts;
  const finite = (ms: number): number | null => (Number.isFinite(ms) ? ms : null);
  const loading = new Set(ollama.runners.filter((runner) => runner.loading).map((runner) => runner.process.pid));
  return {
    version: 1,
    preset,
    lastSeq: recorder.lastSeq,
    // A load that is under way dies with the server.
    processes: gpuHost.snapshot().map((process) => ({ ...process, ended: process.ended || loading.has(process.pid) })),
    runners: ollama.runners
      .filter((runner) => !runner.loading && !runner.dead.aborted)
      .map(({ process, model, options, placement, sessionMs, expiresAtMs }) => ({
        pid: process.pid,
        model: model.name,
        options,
        placement,
        sessionMs: finite(sessionMs),
        leftMs: finite(expiresAtMs === null ? sessionMs : expiresAtMs - clock.now()),
      })),
    containers: containers.snapshot(),
    faults: faults.list(),
  };
}

/** @returns the processes that hold memory again */
function restore(
  saved: SavedState,
  preset: string,
  dependencies: RunnerDependencies,
  ollama: OllamaService,
): GpuProcess[] {
  if (saved.preset !== preset) unknownName('preset for this state file', preset, [saved.preset]);
  const { clock, faults, gpuHost } = dependencies;
  for (const { name, params, remaining } of saved.faults) {
    faults.set(name, remaining === null ? params : { ...params, count: remaining });
  }
  const models = PRESETS[preset]?.models ?? [];
  const processes = saved.processes.map((snapshot) => gpuHost.restore(snapshot));
  for (const state of saved.runners) {
    const process = processes.find(({ pid, ended }) => pid === state.pid && !ended);
    const model = models.find(({ name }) => name === state.model);
    if (process === undefined || model === undefined) continue;
    const sessionMs = state.sessionMs ?? Number.POSITIVE_INFINITY;
    const runner = new OllamaRunner(model, state.options, state.placement, sessionMs, dependencies, process);
    runner.expiresAtMs = clock.now() + (state.leftMs ?? Number.POSITIVE_INFINITY);
    ollama.adopt(runner);
  }
  return processes;
}

/** The command of a compiled program beside this one. From the sources, those of the last build are meant. */
function executable(name: string, adminUrl: string): readonly string[] {
  const here = dirname(fileURLToPath(import.meta.url));
  const beside = resolve(here, `${name}.js`);
  const built = resolve(here, '../../dist/simulator', `${name}.js`);
  return [process.execPath, existsSync(beside) ? beside : built, '--simulator', adminUrl];
}
