/** Where a host must be once disturbances have ended: at rest, telling the truth, and where M5 and its mode want it. */
import { setTimeout as pause } from 'node:timers/promises';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { modelTenant } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome, OperationRef } from '../../src/contracts/operation.js';
import type { System } from '../system/system.js';
import { embeddersOf } from './embedders.js';

const LOOK_MS = 100;
/** The room that decides on M5 is not judged within so many MB of the threshold. */
const MARGIN_MB = 600;
const CLIP_MB = 500;

/**
 * @param firstJournal what came before counts no more: the host was in mode idle then, with nothing moved by hand
 * @returns what still is not as it should be when the bound passes; nothing if all is well
 */
export async function settle(system: System, boundMs: number, firstJournal = 0): Promise<string[]> {
  const end = Date.now() + boundMs;
  for (;;) {
    const complaints = await complaintsAtRest(system, firstJournal).catch((error: unknown) => [
      `no answer: ${String(error)}`,
    ]);
    if (complaints.length === 0 || Date.now() > end) return complaints;
    await pause(LOOK_MS);
  }
}

/** Why an operation does not end: what it waits for, or that its tasks fail. */
async function describeHolder({ client, control }: System, { workflowId, runId }: OperationRef): Promise<string> {
  const { status, raw } = await client.workflow.getHandle(workflowId, runId).describe();
  const { events } = await client.workflow.getHandle(workflowId, runId).fetchHistory();
  const waitsFor = raw.pendingActivities?.map(({ activityType, attempt, lastFailure }) =>
    [activityType?.name, `attempt ${attempt}`, lastFailure?.message].join(' '),
  );
  const newest = events
    ?.slice(-4)
    .map(({ eventType, ...event }) => JSON.stringify({ eventType, ...event }).slice(0, 300));
  const failing = control
    ?.log()
    .split('\n')
    .filter((line) => line.includes(runId))
    .slice(-3);
  return JSON.stringify({ workflowId, status: status.name, task: raw.pendingWorkflowTask, waitsFor, newest, failing });
}

async function complaintsAtRest(system: System, firstJournal: number): Promise<string[]> {
  const { gpuHost, ollama } = system.simulator;
  const [status, state, embedders, journal] = [
    await system.status(),
    await system.hostState(),
    await embeddersOf(system),
    await system.journalAfter(firstJournal),
  ];
  const operations = journal.filter(({ type }) => type === 'operation');
  const complaints: string[] = [];
  const expect = (holds: boolean, what: string): void => {
    if (!holds) complaints.push(`at rest: ${what}`);
  };
  for (const { operation } of state.turns)
    complaints.push(`at rest: a turn is held: ${await describeHolder(system, operation)}`);
  expect(state.queue.length === 0, `the queue is not empty: ${JSON.stringify(state.queue)}`);
  expect(status.turns.length === 0, `the agent's fence is held: ${JSON.stringify(status.turns)}`);
  const loaded = ollama.runners.filter((runner) => !runner.loading && !runner.leaving && !runner.dead.aborted);
  // A mode is moved to once: the one model that it lacks, pushed out by an operation since, may stay out, if it is told.
  const lacked = /^mode (\S+) wants model\/(\S+), displaced by [^;]+; `[^`]+` brings it back$/.exec(
    status.degraded_reason ?? '',
  );
  const isToldTruly =
    lacked?.[1] === status.execution_mode &&
    !loaded.some(({ model }) => model.name === lacked?.[2]) &&
    operations.some(({ details }) =>
      (details['outcome'] as OperationOutcome).displaced.includes(modelTenant(lacked?.[2] ?? '')),
    );
  expect(!status.degraded_mode || isToldTruly, `still degraded: ${status.degraded_reason}`);

  // Ollama goes on listing a runner that died until its next request: nobody can know better.
  const crashed = ollama.runners.some((runner) => runner.dead.aborted);
  const vlm = loaded.some((runner) => runner.model.name === status.vlm_model);
  const believed = status.vlm_state === 'loaded';
  const failed = status.vlm_state === 'error' && !vlm;
  if (!crashed) expect(believed === vlm || failed, `M3: the VLM is ${status.vlm_state}, Ollama has it: ${vlm}`);
  expect(['loaded', 'unloaded', 'error'].includes(status.vlm_state), `M3: the VLM is ${status.vlm_state}`);
  for (const runner of loaded) {
    const tenant = status.tenants.find(({ id }) => id === modelTenant(runner.model.name));
    expect(tenant?.state === 'resident', `${runner.model.name} is there, its state is ${tenant?.state}`);
  }

  const owned = gpuHost.processes.filter(({ kind, ended }) => kind === 'embedder' && !ended);
  expect(embedders.length === 1, `there are ${embedders.length} embedders`);
  expect(
    owned.length === (embedders[0]?.device === 'cuda' ? 1 : 0),
    `M8: ${owned.length} embedders hold GPU memory, the one on record is on ${embedders[0]?.device}`,
  );
  expect(
    status.clip_device === embedders[0]?.device,
    `M10: CLIP is on ${embedders[0]?.device}, said ${status.clip_device}`,
  );

  // What the driver keeps for itself is not free: it counts as used.
  const usedMb = gpuHost.cards.reduce((sum, card) => sum + gpuHost.usedMb(card) + card.spec.reservedMb, 0);
  expect(Math.abs((status.vram?.used_mb ?? 0) - usedMb) <= 1, `used ${usedMb} MB, said ${status.vram?.used_mb}`);

  expect(state.intents.mode === status.execution_mode, `the host thinks that the mode is ${state.intents.mode}`);
  if (status.execution_mode === 'autopilot' && clipByHand(operations) === null) {
    // M5 with the room that a reading shows without CLIP, on the GPU with the most of it.
    const { vram_threshold_for_clip_gpu_mb: threshold } = system.config;
    const free = gpuHost.cards.map(
      (card) =>
        card.spec.totalMb -
        card.spec.reservedMb -
        gpuHost.usedMb(card) +
        owned.reduce((sum, one) => sum + gpuHost.heldMb(one.holder, card.spec.uuid), 0),
    );
    const room = Math.max(...free);
    if (!vlm && room > threshold + MARGIN_MB)
      expect(status.clip_device === 'cuda', `M5: ${room} MB are free, CLIP is on the CPU`);
    if (!crashed && (vlm || room < Math.min(threshold, CLIP_MB) - MARGIN_MB)) {
      expect(status.clip_device === 'cpu', `M5: CLIP is on the GPU; VLM there: ${vlm}, ${room} MB free`);
    }
  }
  if (status.idle_timeout_seconds !== null && status.idle_timeout_seconds < 10) {
    expect(!vlm, `M12: the VLM is there, the idle time is ${status.idle_timeout_seconds} s`);
  }
  return complaints;
}

interface Ended {
  goal: OperationGoal;
  outcome: OperationOutcome;
}

const endedOf = (entry: JournalEntry): Ended => entry.details as unknown as Ended;

/** A move by hand since the last mode switch. */
function clipByHand(operations: JournalEntry[]): string | null {
  const last = operations
    .map(endedOf)
    .findLast(({ goal, outcome }) => (goal.kind === 'mode' || goal.kind === 'embedder') && outcome.status === 'done');
  return last?.goal.kind === 'embedder' ? last.goal.device : null;
}
