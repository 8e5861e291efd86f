import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import proto from '@temporalio/proto';
import { Command } from 'commander';
import { findClipPart } from '../../adapters/clip/part.js';
import { foldersOf } from '../../config/folders.js';
import type { Config } from '../../config/schema.js';
import { CONTROL_QUEUE } from '../../contracts/names.js';
import type { Status } from '../../contracts/status.js';
import { agentClient } from '../agentClient.js';
import type { CliContext } from '../context.js';
import { exitWith } from '../exit.js';
import { EXIT } from '../exitCodes.js';
import { configOf, homeOf, outputOf } from '../globalOptions.js';
import { temporalAddress, temporalClient } from '../temporal.js';
import { UserError } from '../userError.js';

interface Finding {
  part: string;
  /** `missing`: an optional part that is not there. `degraded`: it works, but not with all that it should. */
  state: 'ok' | 'degraded' | 'missing' | 'broken';
  message: string;
}

const TIMEOUT_MS = 5_000;
/** A worker asks for tasks at least every minute (Temporal's long poll), and the server remembers it for five. */
const POLLED_WITHIN_MS = 70_000;

/**
 * `vramflow doctor`: each part that vramflow needs, whether it answers, and what to do if not. The clients of Docker and
 * Ollama are loaded when they are needed: every command would wait for them.
 */
export function doctorCommand(context: CliContext): Command {
  return new Command('doctor')
    .description('check every part that vramflow needs')
    .action(async (_options, command: Command) => {
      const { config } = configOf(command, context);
      const agent = await statusOf(config, context);
      const hardware =
        !(agent instanceof Error) && agent.simulated
          ? [simulated(agent)]
          : [checkOllama(config, agent), checkGpu(config), checkClip(config, context, agent)];
      const services = checkServices(config, agent);
      const parts = await Promise.all([
        checkTemporal(config),
        checkControl(config),
        checkAgent(agent),
        ...hardware,
        ...services,
      ]);
      const findings = [...parts, ...(agent instanceof Error ? [] : runnersLeftBehind(agent))];
      outputOf(command, context).data(findings, (_value, style) => {
        const paint = { ok: style.green, degraded: style.yellow, missing: style.yellow, broken: style.red };
        return findings
          .map(({ part, state, message }) => `${paint[state](state.padEnd(9))}${part.padEnd(10)}${message}`)
          .join('\n');
      });
      exitWith(findings.some(({ state }) => state === 'broken') ? EXIT.unavailable : EXIT.ok);
    });
}

async function checkTemporal(config: Config): Promise<Finding> {
  return finding('Temporal', async () => {
    const client = await temporalClient(config);
    await client.connection.close();
    return `answers at ${temporalAddress(config)}`;
  });
}

/** Without it every operation is taken on, and none goes on. */
async function checkControl(config: Config): Promise<Finding> {
  return finding('control', async () => {
    const client = await temporalClient(config);
    try {
      const { pollers } = await client.workflowService.describeTaskQueue({
        namespace: config.temporal.namespace,
        taskQueue: { name: CONTROL_QUEUE },
        taskQueueType: proto.temporal.api.enums.v1.TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
      });
      const polledMs = (pollers ?? []).map(({ lastAccessTime }) => Number(lastAccessTime?.seconds ?? 0) * 1_000);
      const agoMs = Date.now() - Math.max(0, ...polledMs);
      if (agoMs <= POLLED_WITHIN_MS) return 'the control worker asks for tasks';
      throw new UserError('No control worker asks for tasks: operations wait until one does.', {
        exitCode: EXIT.unavailable,
        remedy: 'Start it with `vramflow up`, or `vramflow worker --role control` where Temporal is not its own.',
      });
    } finally {
      await client.connection.close();
    }
  });
}

async function statusOf(config: Config, context: CliContext): Promise<Status | Error> {
  try {
    return await agentClient(config, context).get<Status>('/v1/status');
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function checkAgent(status: Status | Error): Promise<Finding> {
  return finding('agent', async () => {
    if (status instanceof Error) throw status;
    const degraded = status.degraded_reason === null ? '' : `; degraded: ${status.degraded_reason}`;
    return `answers for host ${status.host}${degraded}`;
  }).then((found) =>
    !(status instanceof Error) && status.degraded_mode && found.state === 'ok'
      ? { ...found, state: 'degraded' }
      : found,
  );
}

/** What the real machine has does not matter to a simulated host. */
function simulated(status: Status): Finding {
  const gpus = status.gpus.map((gpu) => gpu.name).join(', ');
  return { part: 'hardware', state: 'ok', message: `SIMULATED: Ollama, CLIP and ${gpus}` };
}

/** The agent's word on what runs the services: it may do what this user may not. Without it Docker is asked. */
function checkServices(config: Config, agent: Status | Error): (Finding | Promise<Finding>)[] {
  if (!(agent instanceof Error)) {
    return agent.drivers
      .filter(({ id }) => id === 'docker' || id === 'native')
      .map(({ id, available, reason }) => ({
        part: id,
        state: available ? 'ok' : 'broken',
        message: reason ?? 'its services can be managed',
      }));
  }
  if (Object.values(config.services).every(({ run }) => run !== undefined)) return [];
  return [
    finding('docker', async () => {
      const { createDaemon } = await import('../../adapters/docker/daemon.js');
      const daemon = createDaemon({ socketPath: config.docker.socket });
      await daemon.ping(AbortSignal.timeout(TIMEOUT_MS));
      return `answers at ${daemon.address}`;
    }),
  ];
}

async function checkOllama(config: Config, agent: Status | Error): Promise<Finding> {
  const driver = agent instanceof Error ? undefined : agent.drivers.find(({ id }) => id === 'ollama');
  if (driver?.resting) {
    const message = `${driver.reason}; \`vramflow service list\` shows it, \`vramflow service start\` starts it`;
    return { part: 'Ollama', state: 'ok', message };
  }
  return finding('Ollama', async () => {
    const { createOllama } = await import('../../adapters/ollama/ollama.js');
    const ollama = createOllama(config.ollama_endpoint);
    const version = await ollama.version(AbortSignal.timeout(TIMEOUT_MS));
    const installed = (await ollama.installed(AbortSignal.timeout(TIMEOUT_MS))).map((model) => model.name);
    const missing = Object.keys(config.models).filter((name) => !installed.includes(name));
    const pull =
      missing.length > 0 ? `; not installed: ${missing.map((name) => `ollama pull ${name}`).join(', ')}` : '';
    return `${version} at ${config.ollama_endpoint}${pull}`;
  });
}

/** Law 5: vramflow did not start them, so it ends none of them. */
export function runnersLeftBehind({ processes, host }: Pick<Status, 'processes' | 'host'>): Finding[] {
  const left = (processes ?? []).filter(({ owner }) => owner === 'left-behind');
  return [...new Set(left.map(({ pid }) => pid))].map((pid) => {
    const mb = left.filter((one) => one.pid === pid).reduce((sum, one) => sum + (one.used_mb ?? 0), 0);
    const message = `process ${pid} on ${host} holds ${mb} MB for an Ollama server that has ended without it: nobody can use it any more. \`kill ${pid}\` there gives its memory back`;
    return { part: 'Ollama', state: 'degraded', message };
  });
}

async function checkGpu(config: Config): Promise<Finding> {
  if (config.gpu.reader === 'none') return { part: 'GPU', state: 'missing', message: 'no reader, as configured' };
  const [program = 'nvidia-smi', ...args] = config.gpu.nvidia_smi;
  try {
    const { stdout } = await promisify(execFile)(program, [...args, '-L'], { timeout: TIMEOUT_MS });
    return { part: 'GPU', state: 'ok', message: stdout.trim().split('\n').join('; ') };
  } catch (error) {
    const message = error instanceof Error ? (error.message.split('\n')[0] ?? error.message) : String(error);
    return { part: 'GPU', state: 'missing', message: `CPU only: ${message}` };
  }
}

function checkClip(config: Config, context: CliContext, agent: Status | Error): Promise<Finding> {
  if (!(agent instanceof Error) && agent.clip_part.startsWith('failed'))
    return Promise.resolve({ part: 'CLIP', state: 'degraded', message: agent.clip_part });
  if (!(agent instanceof Error) && agent.clip_part === 'starting') {
    const said = agent.drivers.find(({ id }) => id === 'clip')?.reason ?? agent.clip_part;
    return Promise.resolve({ part: 'CLIP', state: 'degraded', message: `${said} (a first start fetches its model)` });
  }
  const { data } = foldersOf(config.data_dir, { env: context.env, homeDir: homeOf(context) });
  const part = findClipPart({ dataDir: data, repoRoot: fileURLToPath(new URL('../../../', import.meta.url)) });
  return Promise.resolve(
    'missing' in part
      ? { part: 'CLIP', state: 'missing', message: `${part.missing.reason} ${part.missing.remedy}` }
      : { part: 'CLIP', state: 'ok', message: part.folder },
  );
}

async function finding(part: string, check: () => Promise<string>): Promise<Finding> {
  try {
    return { part, state: 'ok', message: await check() };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const remedy = error instanceof Error && 'remedy' in error ? String(error.remedy) : '';
    return { part, state: 'broken', message: message.includes(remedy) ? message : `${message} ${remedy}` };
  }
}
