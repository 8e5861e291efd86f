import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { createEmbedderLauncher, embedderCommand } from '../adapters/clip/embedder.js';
import { clipEnvironment, findClipPart } from '../adapters/clip/part.js';
import { chooseReader } from '../adapters/gpu/chooseReader.js';
import { createDeclaredReader } from '../adapters/gpu/declared.js';
import { createNoGpuReader } from '../adapters/gpu/none.js';
import { createNvidiaSmiReader } from '../adapters/gpu/nvidiaSmi.js';
import type { GpuReader } from '../adapters/gpu/reader.js';
import { createOllama } from '../adapters/ollama/ollama.js';
import { Agent } from '../agent/agent.js';
import { EdgeReporter } from '../agent/edgeReporter.js';
import { EmbedderSwitch } from '../agent/embedderSwitch.js';
import { resumeUnfinished } from '../agent/resume.js';
import { createSampler } from '../agent/sampler.js';
import type { Folders } from '../config/folders.js';
import type { Config } from '../config/schema.js';
import { toHostPolicy } from '../config/toPolicy.js';
import type { Edge } from '../contracts/messages.js';
import { DECLARED_GPU } from '../contracts/names.js';
import { isLeftBehind, isOllamas } from '../domain/attribution.js';
import { findProcesses } from '../processes/proc.js';
import type { AgentRole } from './agent.js';
import { buildServices } from './buildServices.js';

const DENSE_PERIOD_MS = 100;
const RING_SIZE = 600;
const FIRST_SAMPLE_MS = 10_000;
const OLLAMA_LOOK_MS = 1_000;
const EMBEDDER_LOOK_MS = 5_000;
const EMBEDDER_START_MS = 10_000;
const DESCENDANTS_MS = 2_000;
/** Far longer than between two questions of a lease that is held: the edges ask for it once a period. */
const FORGET_DESCENDANTS_MS = 60_000;
const clock = { now: () => performance.now() };

/** Puts the agent together from the configuration, and starts its watchers. */
export async function buildAgent(
  { config, folders, simulated, log, signal }: AgentRole,
  folder: string,
  instance: string,
) {
  const { reader, warning } = await readerOf(config);
  if (warning !== null) log.warn({ reader: reader.kind }, warning);
  let connected: ((edge: Edge) => Promise<void>) | null = null;
  let reporter: EdgeReporter | null = null;
  const sampler = createSampler({
    reader,
    clock,
    periodMs: config.vram_poll_ms,
    densePeriodMs: DENSE_PERIOD_MS,
    thresholdMb: config.vram_event_threshold_mb,
    isOurs: (pid) => isOurs(agent, pid),
    isStarting: () => agent.isStarting(),
    isLeftBehind: (pid) => isRunnerLeftBehind(agent, pid),
    ringSize: RING_SIZE,
  });
  const services = buildServices(config, folder, clock.now);
  const descendants = watchDescendants(signal, log);
  const agent: Agent = new Agent({
    policy: toHostPolicy(config),
    simulated,
    folder,
    instance,
    ollama: createOllama(config.ollama_endpoint),
    embedder: embedderOf(config, folders, folder),
    sampler,
    services,
    readerKind: reader.kind,
    readerReason: warning,
    now: clock.now,
    descendants: descendants.of,
    onOllamaChange: (change) => reporter?.ollama(change),
    onIdle: () => reporter?.flush(),
  });
  const report = new EdgeReporter(
    agent,
    (edge) => connected?.(edge) ?? Promise.reject(new Error('Temporal is not connected yet')),
    (error) => log.warn({ error: String(error) }, 'an edge could not be reported; it is sent again'),
    (tenant) => agent.isWorkedAt(tenant),
  );
  reporter = report;
  sampler.onEdge((edge) => report.gpu(edge));
  if (reader.kind === 'nvidia-smi') {
    // The host's first look grants turns over what it sees. A reader that hangs must not hold the agent up for ever.
    await sampler
      .sampleAfter(Number.NEGATIVE_INFINITY, { signal, boundMs: FIRST_SAMPLE_MS })
      .catch((error: unknown) => log.warn({ error: String(error) }, 'the GPUs could not be read yet'));
  }
  findOwners(agent, descendants.look, signal, log);
  services.onNews((news) => {
    report.service(news);
    if (news.kind === 'driver-back') void resumeUnfinished(agent);
  });
  // The services first: one of them may be what Ollama runs in.
  await services.look(signal);
  await agent.watch.look();
  agent.watch.start(OLLAMA_LOOK_MS);
  await startEmbedder(agent, report, log, signal);
  await resumeUnfinished(agent);
  watchEmbedder(agent, report, log, signal);
  return {
    agent,
    reporter: report,
    connectReporter: (send: (edge: Edge) => Promise<void>) => {
      connected = send;
      report.flush();
    },
  };
}

/** The processes of lease holders, looked at now and then as long as somebody asks for them, and when a new one is on a GPU. */
function watchDescendants(
  signal: AbortSignal,
  log: AgentRole['log'],
): { of: (pid: number) => number[]; look: () => void } {
  const known = new Map<number, { pids: number[]; askedAt: number }>();
  const look = () => {
    for (const [pid, { askedAt }] of known) if (clock.now() - askedAt > FORGET_DESCENDANTS_MS) known.delete(pid);
    if (known.size === 0) return;
    findProcesses(() => Promise.resolve(true)).then(
      (table) => {
        for (const [pid, one] of known) one.pids = descendantsOf(pid, table);
      },
      (error: unknown) => log.warn({ error: String(error) }, 'the processes of leases could not be looked at'),
    );
  };
  const timer = setInterval(look, DESCENDANTS_MS);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  return {
    of: (pid) => {
      const { pids } = known.get(pid) ?? { pids: [pid] };
      known.set(pid, { pids, askedAt: clock.now() });
      return pids;
    },
    look,
  };
}

function descendantsOf(pid: number, table: readonly { pid: number; parent: number }[]): number[] {
  const found = [pid];
  for (const parent of found) found.push(...table.filter((one) => one.parent === parent).map((one) => one.pid));
  return found;
}

async function readerOf(config: Config): Promise<{ reader: GpuReader; warning: string | null }> {
  const { reader, nvidia_smi: command, total_mb: totalMb } = config.gpu;
  if (reader === 'auto') return chooseReader({ command, clock });
  if (reader === 'nvidia-smi') return { reader: createNvidiaSmiReader({ command, clock }), warning: null };
  if (totalMb !== undefined) {
    const warning = 'no GPU reader is configured: footprints are declared, not measured';
    return {
      reader: createDeclaredReader({ clock, gpus: [{ uuid: DECLARED_GPU, name: 'declared GPU', totalMb }] }),
      warning,
    };
  }
  const reason = 'gpu.reader is none, and no gpu.total_mb is declared';
  return { reader: createNoGpuReader({ clock, reason }), warning: `no GPU, CPU only: ${reason}` };
}

function embedderOf(config: Config, folders: Folders, folder: string): EmbedderSwitch {
  const { command, gpu_provider: gpuProvider, model_path: modelPath } = config.clip;
  const model = modelPath ?? config.clip_model;
  const stateDir = join(folder, 'embedder');
  if (command) {
    return new EmbedderSwitch(createEmbedderLauncher({ command, model, stateDir, gpuProvider }), null);
  }
  const part = findClipPart({ dataDir: folders.data, repoRoot: fileURLToPath(new URL('../../', import.meta.url)) });
  if ('missing' in part) return new EmbedderSwitch(null, `${part.missing.reason} ${part.missing.remedy}`);
  const env = clipEnvironment(part, folders.data);
  return new EmbedderSwitch(
    createEmbedderLauncher({ command: embedderCommand(), model, stateDir, gpuProvider, env }),
    null,
  );
}

/** Its first start fetches a model, for minutes maybe: all else does not wait for that. */
async function startEmbedder(
  agent: Agent,
  reporter: EdgeReporter,
  log: AgentRole['log'],
  signal: AbortSignal,
): Promise<void> {
  let isLate = false;
  const starting = agent.embedder.start(signal).then(
    (how) => {
      if (how === 'missing') log.warn(agent.embedder.reason() ?? 'the CLIP part is missing');
      else log.info(agent.embedder.process(), `CLIP: ${how}`);
      if (!isLate || how === 'missing') return;
      reporter.embedderCame();
      return resumeUnfinished(agent);
    },
    (error: unknown) => {
      const what =
        agent.embedder.process() === null
          ? 'did not start; the rest works'
          : 'works; another process of it does not end';
      if (!signal.aborted) log.warn({ error: String(error) }, `CLIP ${what}`);
    },
  );
  const waited = new AbortController();
  await Promise.race([
    starting,
    pause(EMBEDDER_START_MS, undefined, { signal: waited.signal }).then(
      () => {
        isLate = true;
        log.info('CLIP is still starting; its first start fetches its model');
      },
      () => undefined, // It came before.
    ),
  ]);
  waited.abort();
}

/** An embedder that died by itself is started again, on the CPU; the host then looks where it belongs. */
function watchEmbedder(agent: Agent, reporter: EdgeReporter, log: AgentRole['log'], signal: AbortSignal): void {
  const timer = setInterval(() => {
    reporter.flush();
    if (agent.fence.isHeld()) return;
    agent.embedder.revive(signal).then(
      (revived) => {
        if (revived) reporter.embedderDied('its process had ended; it runs on the CPU again');
      },
      (error: unknown) => {
        if (!signal.aborted) log.warn({ error: String(error) }, 'CLIP could not be looked at');
      },
    );
  }, EMBEDDER_LOOK_MS);
  signal.addEventListener('abort', () => clearInterval(timer), { once: true });
}

/** A service has a child that takes memory, say: a process that nobody knows yet makes the agent look whose it is. */
function findOwners(agent: Agent, lookAtLeases: () => void, signal: AbortSignal, log: AgentRole['log']): void {
  let known = new Set<number>();
  agent.sampler.onSample(({ processes }) => {
    if (processes === null) return;
    const isNew = processes.some(({ pid }) => !known.has(pid) && !isOurs(agent, pid));
    known = new Set(processes.map(({ pid }) => pid));
    if (!isNew || signal.aborted) return;
    lookAtLeases();
    if (agent.policy.services.length === 0) return;
    agent.services.look(signal).catch((error: unknown) => {
      if (!signal.aborted) log.warn({ error: String(error) }, 'the services could not be looked at');
    });
  });
}

const listed = (agent: Agent, pid: number) => agent.sampler.latest().processes?.find((one) => one.pid === pid);

function isRunnerLeftBehind(agent: Agent, pid: number): boolean {
  const process = listed(agent, pid);
  return process !== undefined && isLeftBehind(process);
}

/** Ollama's runners count as ours also while they come: its own API tells which models they are. */
function isOurs(agent: Agent, pid: number): boolean {
  const process = listed(agent, pid);
  if (agent.services.views().some(({ sight }) => sight.pids.includes(pid))) return true;
  return agent.reservations.owns(pid) || agent.embedder.owns(pid) || (process !== undefined && isOllamas(process));
}
