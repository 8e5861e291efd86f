/** An agent on fakes that a test scripts: an Ollama, a card that shows what it holds, and embedder processes. */
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import {
  type EmbedDevice,
  EmbedderError,
  type EmbedderLauncher,
  type EmbedderProcess,
} from '../../src/adapters/clip/embedder.js';
import type { GpuProcess, GpuReader, GpuSample } from '../../src/adapters/gpu/reader.js';
import { type GenerateChunk, type Ollama, OllamaError, type ResidentModel } from '../../src/adapters/ollama/ollama.js';
import { Agent, type AgentOptions } from '../../src/agent/agent.js';
import { EmbedderSwitch } from '../../src/agent/embedderSwitch.js';
import type { OllamaChange } from '../../src/agent/ollamaWatch.js';
import { createSampler } from '../../src/agent/sampler.js';
import { type ManagedService, Services } from '../../src/agent/services.js';
import { StateFile } from '../../src/agent/stateFile.js';
import type { HostPolicy } from '../../src/contracts/policy.js';
import { policy as defaultPolicy } from '../domain/planner/hosts.js';
import { testFolder } from './folder.js';

export const CARD = 'GPU-test';
export const CARD_MB = 24_564;
const DESKTOP_MB = 800;

export const away = () => new OllamaError('unavailable', 'Nobody listens', 'Start it.');

/** Each method can be replaced by a test; `calls` says what was asked. */
export class FakeOllama implements Ollama {
  readonly endpoint = 'http://ollama.test';
  readonly models = new Map<string, ResidentModel>();
  readonly calls: string[] = [];
  isAway = false;
  /** Of each model that is loaded. */
  loadedMb = 10_752;
  onLoad: (model: string, signal: AbortSignal) => Promise<void> = (model) => Promise.resolve(this.put(model));
  onUnload: (model: string, signal: AbortSignal) => Promise<void> = (model) => Promise.resolve(this.drop(model));
  onProbe: (model: string) => Promise<void> = () => Promise.resolve();
  onGenerate: (signal: AbortSignal) => AsyncIterable<GenerateChunk> = async function* () {
    yield { text: 'Hello', done: false };
    yield { text: '', done: true, tokens: 1 };
  };

  put(name: string, change: Partial<ResidentModel> = {}): void {
    const size = { sizeMb: this.loadedMb, vramMb: this.loadedMb };
    this.models.set(name, { name, ...size, expiresAt: Date.now() + 86_400_000, contextLength: null, ...change });
  }

  drop(name: string): void {
    this.models.delete(name);
  }

  version(): Promise<string> {
    return this.answer('0.6.5');
  }
  installed() {
    return this.answer([{ name: 'qwen3-vl:8b', sizeMb: 6_000 }]);
  }
  resident(): Promise<ResidentModel[]> {
    return this.answer([...this.models.values()]);
  }
  load(model: string, { signal }: { signal: AbortSignal }): Promise<void> {
    this.calls.push(`load ${model}`);
    return this.isAway ? Promise.reject(away()) : this.onLoad(model, signal);
  }
  unload(model: string, { signal }: { signal: AbortSignal }): Promise<void> {
    this.calls.push(`unload ${model}`);
    return this.isAway ? Promise.reject(away()) : this.onUnload(model, signal);
  }
  probe(model: string): Promise<void> {
    this.calls.push(`probe ${model}`);
    return this.isAway ? Promise.reject(away()) : this.onProbe(model);
  }
  generate(model: string, _prompt: string, { signal }: { signal: AbortSignal }): AsyncIterable<GenerateChunk> {
    this.calls.push(`generate ${model}`);
    return this.onGenerate(signal);
  }

  private answer<T>(value: T): Promise<T> {
    return this.isAway ? Promise.reject(away()) : Promise.resolve(value);
  }
}

/** A card that shows the runners of an Ollama and the processes of an embedder; a sample comes every few ms. */
export class FakeCard implements GpuReader {
  readonly kind = 'nvidia-smi';
  /** Memory that is not given back, whoever held it. */
  stuckMb = 0;
  strangers: GpuProcess[] = [];
  /** False: what is used cannot be read. */
  readable = true;
  /** False: there is no list of processes. */
  listed = true;
  private onSample: (sample: GpuSample) => void = () => {};
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly ollama: FakeOllama,
    private readonly launcher: FakeLauncher,
  ) {}

  async start(onSample: (sample: GpuSample) => void): Promise<void> {
    this.onSample = onSample;
    this.show();
    this.timer = setInterval(() => this.show(), 5);
  }
  /** What the driver shows of a runner, of what Ollama says of its model. */
  shownShare = 1;

  setPeriod(): void {}
  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
  }

  show(): void {
    const processes = this.processes();
    const usedMb = processes.reduce((sum, { usedMb }) => sum + (usedMb ?? 0), DESKTOP_MB + this.stuckMb);
    const figures = { usedMb, freeMb: CARD_MB - usedMb, utilizationPercent: 3, temperatureC: 45 };
    const none = { usedMb: null, freeMb: null, utilizationPercent: null, temperatureC: null };
    const gpu = this.readable
      ? { ...figures, health: 'ok' as const, problem: null }
      : { ...none, health: 'unknown' as const, problem: 'it cannot be read' };
    const gpus = [{ uuid: CARD, index: 0, name: 'Test GPU', totalMb: CARD_MB, ...gpu }];
    const list = this.listed ? processes : null;
    this.onSample({ takenAt: performance.now(), gpus, processes: list, problem: null });
  }

  private processes(): GpuProcess[] {
    const runners = [...this.ollama.models.values()].map((model, n) => ({
      uuid: CARD,
      pid: 500 + n,
      name: '/usr/bin/ollama',
      usedMb: Math.round(model.vramMb * this.shownShare),
    }));
    const embedders = [...this.launcher.live].flatMap(({ pid, device }) =>
      device === 'cuda' ? [{ uuid: CARD, pid, name: 'node', usedMb: 500 }] : [],
    );
    return [...runners.filter(({ usedMb }) => usedMb > 0), ...embedders, ...this.strangers];
  }
}

const VECTOR = [0.6, 0.8];

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));

/** Starts processes that answer with one vector; a test makes starts and ends fail. */
export class FakeLauncher implements EmbedderLauncher {
  readonly live = new Set<EmbedderProcess>();
  /** Of processes that run, but answer nobody. */
  readonly deaf = new Set<EmbedderProcess>();
  /** Of processes that answer late. */
  readonly busy = new Set<EmbedderProcess>();
  vectorOf: (device: EmbedDevice) => number[] = () => VECTOR;
  onStart: (device: EmbedDevice, signal: AbortSignal, onProgress?: (line: string) => void) => Promise<void> = () =>
    Promise.resolve();
  onEnd: (process: EmbedderProcess) => Promise<void> = () => Promise.resolve();
  onEmbed: (process: EmbedderProcess) => Promise<void> = () => Promise.resolve();
  private pid = 900;

  async start(
    device: EmbedDevice,
    { gpu, signal, onProgress }: { gpu: string | null; signal: AbortSignal; onProgress?: (line: string) => void },
  ): Promise<EmbedderProcess> {
    await this.onStart(device, signal, onProgress);
    const process = this.make(device, gpu);
    this.live.add(process);
    return process;
  }

  async end(process: EmbedderProcess): Promise<void> {
    await this.onEnd(process);
    this.live.delete(process);
  }

  running(): Promise<EmbedderProcess[]> {
    return Promise.resolve([...this.live]);
  }

  /** A process as a former agent left it. */
  leave(device: EmbedDevice, gpu: string | null, startedMsAgo: number): EmbedderProcess {
    const process = this.make(device, gpu, startedMsAgo);
    this.live.add(process);
    return process;
  }

  private make(device: EmbedDevice, gpu: string | null, startedMsAgo = 0): EmbedderProcess {
    this.pid += 1;
    const embed = async (inputs: string[], signal: AbortSignal) => {
      if (!this.live.has(process)) throw new EmbedderError('gone', 'nobody listens');
      if (this.deaf.has(process)) await aborted(signal);
      await this.onEmbed(process);
      return inputs.map(() => this.vectorOf(device));
    };
    const process: EmbedderProcess = {
      device,
      gpu,
      pid: this.pid,
      provider: device,
      dimension: VECTOR.length,
      startedMsAgo,
      embedText: embed,
      embedImages: embed,
      alive: (waitMs = 2_000) =>
        Promise.resolve(
          this.live.has(process) && !this.deaf.has(process) && (!this.busy.has(process) || waitMs > 10_000),
        ),
    };
    return process;
  }
}

export interface Pieces {
  agent: Agent;
  ollama: FakeOllama;
  card: FakeCard;
  launcher: FakeLauncher;
  changes: OllamaChange[];
  folder: string;
}

/** @param change.clip false: the CLIP part is missing */
export async function agentOnFakes(
  change: Partial<
    Pick<AgentOptions, 'simulated' | 'readerKind' | 'readerReason' | 'folder' | 'onIdle' | 'onOllamaChange'>
  > & {
    policy?: Partial<HostPolicy>;
    clip?: boolean;
    ollama?: FakeOllama;
    services?: ManagedService[];
  } = {},
): Promise<Pieces> {
  const { policy, clip = true, ollama = new FakeOllama(), services: managed = [], ...options } = change;
  const launcher = new FakeLauncher();
  const card = new FakeCard(ollama, launcher);
  const clock = { now: () => performance.now() };
  const sampling = { periodMs: 1_000, densePeriodMs: 100, thresholdMb: 100, isOurs: () => true, ringSize: 50 };
  const sampler = createSampler({ reader: card, clock, ...sampling });
  const folder = options.folder ?? testFolder();
  const services = new Services(managed, new StateFile(join(folder, 'placements.json'), {}), clock.now);
  const changes: OllamaChange[] = [];
  const agent = new Agent({
    policy: defaultPolicy(policy),
    simulated: false,
    folder,
    instance: 'test',
    ollama,
    embedder: clip ? new EmbedderSwitch(launcher, null) : new EmbedderSwitch(null, 'install it'),
    sampler,
    services,
    readerKind: 'nvidia-smi',
    readerReason: null,
    now: clock.now,
    descendants: (pid) => [pid],
    onOllamaChange: (one) => changes.push(one),
    onIdle: () => {},
    ...options,
  });
  onTestFinished(() => agent.stop());
  await agent.watch.look();
  if (clip) await agent.embedder.start(AbortSignal.timeout(5_000));
  return { agent, ollama, card, launcher, changes, folder };
}
