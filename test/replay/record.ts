/**
 * Records the histories that replay.test.ts replays: `npm run record:histories`, after a change of the workflows and
 * before the first release. Later a history is kept as it is, and the workflows are changed with `patched`.
 */
import { hostname } from 'node:os';
import type { WorkflowHandle } from '@temporalio/client';
import { EXIT, type ExitCode } from '../../src/cli/exitCodes.js';
import { hostQueue, workflowId } from '../../src/contracts/names.js';
import { freePort } from '../parts/ports.js';
import { startTemporal } from '../parts/temporal.js';
import { type System, startSystem } from '../system/system.js';
import { type Recorded, replaceHistories } from './histories.js';

interface Ids {
  workflow_id: string;
  run_id: string;
}

/** So few events that a few operations fill a run of the host's workflow. */
const SHORT_RUN = { 'limit.historyCount.suggestContinueAsNew': 120 };
const VLM = 'qwen3-vl:8b';
const SECOND = 'llava:7b';

export async function recordHistories(): Promise<string[]> {
  const temporal = await startTemporal({ dynamicConfig: SHORT_RUN });
  const [painter, speaker] = [await freePort(), await freePort()];
  const system = await startSystem({
    temporal,
    speed: 10,
    config: {
      idle_timeout_seconds: 'never',
      models: { [SECOND]: { vram_mb: 6348, idle_timeout_seconds: 1 } },
      services: {
        painter: { run: ['painter'], vram_mb: 18_000, priority: 100, health: { http: `http://127.0.0.1:${painter}/` } },
        speaker: { run: ['speaker'], vram_mb: 9_000, priority: 40, health: { http: `http://127.0.0.1:${speaker}/` } },
      },
      phases: { '3': ['speaker'], '4': ['painter'], none: [] },
    },
  });
  try {
    const recorded = [
      ...(await modeTransitions(system)),
      ...(await modelOperations(system)),
      ...(await phases(system)),
      ...(await leases(system)),
      ...(await reconciliations(system)),
      ...(await idleUnloads(system)),
      ...(await hosts(system)),
    ];
    const local: [string, string][] = [
      [`${hostname()}:${system.folder}`, 'machine:/data'],
      [system.folder, '/data'],
    ];
    replaceHistories(recorded, local);
    return recorded.map(({ name }) => name);
  } finally {
    await system.stop();
    await temporal.stop();
  }
}

async function modeTransitions(system: System): Promise<Recorded[]> {
  const loads = await run(system, ['mode', 'recording']);
  const unloadsAndMoves = await run(system, ['mode', 'autopilot']);
  // A newer switch takes the place of one whose load is under way.
  const overtaken = await system.json<Ids>(['mode', 'recording', '--no-wait']);
  await system.until('the load', ({ vlm_state }) => vlm_state === 'loading');
  const overtakes = await run(system, ['mode', 'autopilot']);
  const nothingToDo = await run(system, ['mode', 'autopilot']);
  system.simulator.faults.set('load-fail', { times: 10 });
  const fails = await run(system, ['mode', 'recording'], EXIT.failed);
  system.simulator.faults.clear();
  // An agent that dies in a step: its successor joins in.
  const survives = await system.json<Ids>(['mode', 'recording', '--no-wait']);
  await system.until('the load', ({ vlm_state }) => vlm_state === 'loading');
  await system.agent?.kill();
  await system.startAgent();
  await system.client.workflow.getHandle(survives.workflow_id, survives.run_id).result();
  return await save(system, 'modeTransition', {
    loads,
    unloadsAndMoves,
    overtaken,
    overtakes,
    nothingToDo,
    fails,
    survivesItsAgent: survives,
  });
}

async function modelOperations(system: System): Promise<Recorded[]> {
  const unloads = await run(system, ['model', 'unload', VLM]);
  const moves = await run(system, ['clip', 'move', 'cuda']);
  const [card] = system.simulator.gpuHost.cards;
  const game = system.simulator.gpuHost.startProcess('graphics', '/usr/games/game');
  system.simulator.gpuHost.resize(game, card?.spec.uuid ?? '', 20_000);
  await system.until('the game to be seen', ({ vram }) => (vram?.used_mb ?? 0) > 20_000);
  const refused = await run(system, ['model', 'load', VLM], EXIT.refused);
  await system.simulator.gpuHost.end(game);
  await system.until('its end to be seen', ({ vram }) => (vram?.used_mb ?? 0) < 10_000);
  const loads = await run(system, ['model', 'load', VLM]);
  return await save(system, 'modelOperation', { unloads, moves, refused, loads });
}

async function phases(system: System): Promise<Recorded[]> {
  const starts = await run(system, ['phase', 'prepare', '3']);
  const swaps = await run(system, ['phase', 'prepare', '4']);
  system.simulator.faults.set('service-fail', { service: 'speaker' });
  const fails = await run(system, ['phase', 'prepare', '3'], EXIT.failed);
  system.simulator.faults.clear();
  const refused = await run(system, ['service', 'start', 'speaker'], EXIT.refused);
  const restarts = await run(system, ['service', 'restart', 'painter']);
  const frees = await run(system, ['phase', 'prepare', 'none']);
  return [
    ...(await save(system, 'phasePreparation', { starts, swaps, fails, frees })),
    ...(await save(system, 'serviceOperation', { refused, restarts })),
  ];
}

/** One that waits, is granted, and loses its memory to a phase; and the operation that granted it. */
async function leases(system: System): Promise<Recorded[]> {
  await run(system, ['phase', 'prepare', '4']);
  const args = ['lease', 'acquire', '--id', 'recorded', '--mb', '9000', '--ttl', '600'];
  await system.json([...args, '--no-wait']);
  const held = (id: string) => system.client.workflow.getHandle(workflowId.lease(system.host, id));
  const { runId } = await held('recorded').describe();
  await run(system, ['phase', 'prepare', 'none']);
  await system.until('the lease', ({ tenants }) => tenants.some(({ kind }) => kind === 'reservation'));
  await run(system, ['phase', 'prepare', '4']);
  await held('recorded').result();
  const grants: Ids[] = [];
  const listed = system.client.workflow.list({ query: 'WorkflowType = "leaseOperation"' });
  for await (const { workflowId: id, runId: grant } of listed) grants.push({ workflow_id: id, run_id: grant });
  const [granted] = grants;
  if (granted === undefined) throw new Error('no operation of the lease is listed');
  await run(system, ['phase', 'prepare', 'none']);
  return [
    ...(await save(system, 'lease', { isRevoked: { workflow_id: held('recorded').workflowId, run_id: runId } })),
    ...(await save(system, 'leaseOperation', { grants: granted })),
  ];
}

/** An embedder that dies on the GPU comes back on the CPU, and is then moved to where the mode wants it. */
async function reconciliations(system: System): Promise<Recorded[]> {
  await run(system, ['mode', 'autopilot']);
  const embedder = system.simulator.gpuHost.processes.find(({ kind, ended }) => kind === 'embedder' && !ended);
  if (embedder === undefined) throw new Error('no embedder is on the card');
  process.kill(embedder.pid, 'SIGKILL');
  await system.until('the embedder on the CPU', ({ clip_device }) => clip_device === 'cpu');
  await system.until(
    'the embedder on the GPU',
    ({ clip_device, turns }) => clip_device === 'cuda' && turns.length === 0,
  );
  const done = (await system.journal('operation')).findLast(({ subject }) => subject === 'reconcile');
  if (done?.workflowId == null) throw new Error('no reconciliation is in the journal');
  const ids = { workflow_id: done.workflowId, run_id: String(done.details['runId']) };
  // Its turn is free a moment before it ends.
  await system.client.workflow.getHandle(ids.workflow_id, ids.run_id).result();
  return await save(system, 'reconciliation', { restores: ids });
}

async function idleUnloads(system: System): Promise<Recorded[]> {
  await run(system, ['model', 'load', SECOND]);
  const idle = system.client.workflow.getHandle(workflowId.idleUnload(system.host, SECOND));
  const { runId } = await idle.describe();
  await idle.result();
  return await save(system, 'idleUnload', { unloads: { workflow_id: idle.workflowId, run_id: runId } });
}

/** The first run, which ends by continuing as new, and the last, which goes on from carried state. */
async function hosts(system: System): Promise<Recorded[]> {
  const id = workflowId.gpuHost(system.host);
  const first = await system.client.workflow.getHandle(id).describe();
  const last = { workflow_id: id, run_id: first.runId };
  const chain = first.raw.workflowExecutionInfo?.firstRunId ?? '';
  if (chain === '' || chain === first.runId) {
    throw new Error(`${id} has not continued as new; its agent's queue is ${hostQueue(system.host)}`);
  }
  return await save(system, 'gpuHost', { continuesAsNew: { workflow_id: id, run_id: chain }, continued: last });
}

const run = (system: System, argv: string[], exitCode: ExitCode = EXIT.ok) => system.json<Ids>(argv, exitCode);

async function save(system: System, type: string, runs: Record<string, Ids>): Promise<Recorded[]> {
  return await Promise.all(
    Object.entries(runs).map(async ([what, ids]) => {
      const handle: WorkflowHandle = system.client.workflow.getHandle(ids.workflow_id, ids.run_id);
      return { name: `${type}-${what}`, workflowId: ids.workflow_id, history: await handle.fetchHistory() };
    }),
  );
}
