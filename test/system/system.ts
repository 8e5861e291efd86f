/**
 * A whole vramflow for a test: a real Temporal server, real worker processes, a simulated host (or real parts), and the
 * command line in process. Nothing of vramflow is replaced.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { stringify } from 'yaml';
import { type AgentClient, agentClient } from '../../src/cli/agentClient.js';
import { main } from '../../src/client.js';
import { checkFile, loadConfig } from '../../src/config/load.js';
import type { Config } from '../../src/config/schema.js';
import { simulatedServices } from '../../src/config/simulatedServices.js';
import type { JournalEntry, JournalType } from '../../src/contracts/journal.js';
import type { HostState } from '../../src/contracts/messages.js';
import type { Status } from '../../src/contracts/status.js';
import { readHostState } from '../../src/gateway/publishedState.js';
import { type RunningSimulator, startSimulator } from '../../src/simulator/simulator.js';
import { startTemporal, type TestServer } from '../parts/temporal.js';
import { startWorker, type WorkerProcess } from './children.js';

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface SystemOptions {
  /** Null: no simulator; the configuration then names the real parts. */
  preset?: string | null;
  speed?: number;
  seed?: number;
  /**
   * Makes the containers of the configuration on a real daemon, and says its socket; what they hold is then played as that of
   * processes. Default: the simulated daemon has them.
   */
  realContainers?: (simulator: RunningSimulator) => Promise<string>;
  /** Written as the project's file. */
  config?: Record<string, unknown>;
  /** What a simulated native service takes from the first request to its page /work on, MB. */
  firstUseMb?: Record<string, number>;
  /** A server that several systems share; it is then not stopped with this one. */
  temporal?: TestServer;
  /** The control worker of another system serves this one too. */
  sharesControl?: boolean;
  /** Default: one of its own. */
  host?: string;
  /** Put into every process's environment. */
  env?: Record<string, string>;
}

export interface System {
  readonly host: string;
  readonly folder: string;
  /** What every process and command of it gets; for one that must get something else. */
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly temporal: TestServer;
  readonly client: Client;
  /** Throws where there is none. */
  readonly simulator: RunningSimulator;
  readonly config: Config;
  readonly agentApi: AgentClient;
  /** The live worker processes; null while killed. */
  agent: WorkerProcess | null;
  control: WorkerProcess | null;
  /** Runs `vramflow …` in process. */
  cli(...argv: string[]): Promise<CliResult>;
  /** As `cli`, with other variables or in another folder. */
  cliWith(change: { env?: NodeJS.ProcessEnv; cwd?: string }, ...argv: string[]): Promise<CliResult>;
  /** As `cli` with `-o json`, parsed; throws unless the exit code is as expected (default 0). */
  json<T>(argv: string[], expectedCode?: number): Promise<T>;
  status(): Promise<Status>;
  hostState(): Promise<HostState>;
  journal(...types: JournalType[]): Promise<JournalEntry[]>;
  /** The entries after one, by its sequence number. */
  journalAfter(sequence: number): Promise<JournalEntry[]>;
  startAgent(): Promise<void>;
  startControl(): void;
  /** Resolves when the condition holds; looks every 50 ms. @throws with the last status when the bound passes */
  until(what: string, holds: (status: Status) => boolean, boundMs?: number): Promise<Status>;
  stop(): Promise<void>;
}

let count = 0;

/** @param options.speed of the simulated host; product deadlines are tested at 1 */
export async function startSystem(options: SystemOptions = {}): Promise<System> {
  count += 1;
  const host = options.host ?? `t${process.pid}-${count}`;
  const folder = mkdtempSync(join(tmpdir(), 'vramflow-system-'));
  const temporal = options.temporal ?? (await startTemporal());
  const { preset = 'rtx4090', speed = 1, seed = 1 } = options;
  const projectFile = join(folder, 'vramflow.yaml');
  writeFileSync(projectFile, stringify({ ...options.config, host, data_dir: join(folder, 'data') }));
  const played = simulatedServices(checkFile(projectFile, folder).config);
  const servicesFile = join(folder, 'services.json');
  const { realContainers, firstUseMb } = options;
  if (played !== null) {
    const services = withFirstUse(played, firstUseMb);
    writeFileSync(servicesFile, JSON.stringify(realContainers ? asProcesses(services) : services));
  }
  const simulator =
    preset === null
      ? null
      : await startSimulator({ preset, speed, seed, ...(played === null ? {} : { servicesFile }) });
  const docker = simulator && realContainers ? { docker: await realContainers(simulator) } : {};
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    HOME: folder,
    XDG_CONFIG_HOME: folder,
    VRAMFLOW_CONFIG: projectFile,
    VRAMFLOW_TEMPORAL_ADDRESS: temporal.address,
    VRAMFLOW_AGENT_LISTEN: '127.0.0.1:0',
    ...options.env,
    ...(simulator ? { VRAMFLOW_SIMULATOR: JSON.stringify({ ...simulator.info, ...docker }) } : {}),
  };
  const { config } = loadConfig({ argv: { overrides: {} }, env, cwd: folder, homeDir: folder });
  const connection = await Connection.connect({ address: temporal.address });
  const client = new Client({ connection, namespace: temporal.namespace });
  const capture = () => {
    const stream = new PassThrough();
    let text = '';
    stream.on('data', (data: Buffer) => {
      text += data.toString();
    });
    return { stream, text: () => text };
  };
  // One context: the calls of a test are one caller, who is told once that the host is simulated.
  const context = { env, cwd: folder, stdout: capture().stream, stderr: capture().stream };
  const api = () => agentClient(config, context);

  const system: System = {
    host,
    folder,
    env,
    temporal,
    client,
    config,
    agent: null,
    control: null,
    get agentApi() {
      return api();
    },
    get simulator() {
      if (simulator === null) throw new Error('this system has no simulator');
      return simulator;
    },
    cli: (...argv) => system.cliWith({}, ...argv),
    async cliWith(change, ...argv) {
      const [stdout, stderr] = [capture(), capture()];
      const context = { env: { ...env, ...change.env }, cwd: change.cwd ?? folder };
      const code = await main(argv, { ...context, stdout: stdout.stream, stderr: stderr.stream });
      return { code, stdout: stdout.text(), stderr: stderr.text() };
    },
    async json<T>(argv: string[], expectedCode = 0) {
      const { code, stdout, stderr } = await system.cli(...argv, '-o', 'json');
      if (code !== expectedCode) throw new Error(`vramflow ${argv.join(' ')} ended with ${code}\n${stderr}\n${stdout}`);
      return JSON.parse(stdout) as T;
    },
    status: () => api().get<Status>('/v1/status'),
    async hostState() {
      const state = await readHostState(client, host);
      if (state === null) throw new Error('the host has not begun yet');
      return state;
    },
    async journal(...types) {
      const entries = await system.journalAfter(0);
      return types.length === 0 ? entries : entries.filter((entry) => types.includes(entry.type));
    },
    journalAfter: (sequence) => api().get<JournalEntry[]>(`/v1/journal?after=${sequence}&limit=5000`),
    async startAgent() {
      const agent = startWorker('agent', env);
      system.agent = agent;
      await agentIsThere(system, agent);
    },
    startControl() {
      system.control = startWorker('control', env);
    },
    async until(what, holds, boundMs = 20_000) {
      const end = Date.now() + boundMs;
      let last: Status | string = 'no answer yet';
      while (Date.now() < end) {
        try {
          const status = await system.status();
          if (holds(status)) return status;
          last = status;
        } catch (error) {
          last = String(error);
        }
        await pause(50);
      }
      throw new Error(`${what} did not come true within ${boundMs} ms; last: ${JSON.stringify(last)}`);
    },
    async stop() {
      await system.agent?.stop();
      await endEmbedders(join(folder, 'data', 'agents', host, simulator ? 'simulated' : 'real'));
      await system.control?.stop();
      await connection.close();
      await simulator?.stop();
      if (!options.temporal) await temporal.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  if (!options.sharesControl) system.startControl();
  await system.startAgent();
  return system;
}

/** All that can be played, as real processes that hold simulated memory. */
function asProcesses(played: object): object {
  const { programs, containers } = played as Record<'programs' | 'containers', object[]>;
  return { programs: [...programs, ...containers], containers: [] };
}

function withFirstUse(played: object, firstUseMb: Record<string, number> = {}): object {
  const { programs } = played as { programs: { name: string }[] };
  return { ...played, programs: programs.map((one) => ({ ...one, peakMb: firstUseMb[one.name] ?? null })) };
}

/** Registered with its host, described, and at rest: from here on a test's own actions count. */
async function agentIsThere(system: System, agent: WorkerProcess): Promise<void> {
  let ended = false;
  void agent.ended.then(() => {
    ended = true;
  });
  const end = Date.now() + 60_000;
  while (Date.now() < end) {
    if (ended) throw new Error(`the agent ended at its start:\n${agent.log()}`);
    try {
      const { agent: registered } = await system.hostState();
      const { agent: answering, turns } = await system.status();
      if (registered?.instance === answering.instance && answering.pid === agent.pid && turns.length === 0) return;
    } catch {
      // Not there yet.
    }
    await pause(50);
  }
  throw new Error(`the agent did not come up:\n${agent.log()}\ncontrol:\n${system.control?.log() ?? '(shared)'}`);
}

/** Law 6: embedders outlive their agent; those of a test end with it. */
async function endEmbedders(agentFolder: string): Promise<void> {
  const { createEmbedderLauncher } = await import('../../src/adapters/clip/embedder.js');
  const stateDir = join(agentFolder, 'embedder');
  const launcher = createEmbedderLauncher({ command: ['true'], model: '', stateDir, gpuProvider: 'cpu' });
  for (const process of await launcher.running()) {
    await launcher.end(process, { signal: AbortSignal.timeout(10_000), graceMs: 0 });
  }
}

/** The folder's file, for assertions on what is on disk. */
export const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
