/** The points of an operation at which something is killed, each awaited by what can be seen of it from outside. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { OperationGoal } from '../../src/contracts/operation.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import type { System } from '../system/system.js';

export interface Point {
  name: string;
  /** Resolves when the operation that began after `since` has come so far. */
  reached(system: System, since: Since): Promise<void>;
}

/** Where the record and the journal were when the operation was asked for, and the workflow's id. */
export interface Since {
  seq: number;
  journal: number;
  workflowId: string;
}

/** How often what cannot be awaited is looked at. */
const LOOK_MS = 10;
const BOUND_MS = 20_000;

export const byRecord = (name: string, matches: (entry: RecordEntry) => boolean): Point => ({
  name,
  reached: (system, { seq }) =>
    bounded(
      name,
      system.simulator.recorder.waitFor((entry) => entry.seq > seq && matches(entry)),
    ),
});

export const byLook = (name: string, holds: (system: System, since: Since) => Promise<boolean>): Point => ({
  name,
  async reached(system, since) {
    const end = Date.now() + BOUND_MS;
    while (Date.now() < end) {
      if (await holds(system, since)) return;
      await pause(LOOK_MS);
    }
    throw new Error(`the operation did not come to the point "${name}"`);
  },
});

async function bounded(name: string, awaited: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the operation did not come to the point "${name}"`)), BOUND_MS);
  });
  await Promise.race([awaited, late]).finally(() => clearTimeout(timer));
}

const STEPS = ['loadTenant', 'unloadTenant', 'moveEmbedder', 'startService', 'stopService'];

export const granted = byLook('turn granted', async (system, { workflowId }) => {
  const { turns } = await system.hostState();
  return turns.some(({ operation }) => operation.workflowId === workflowId);
});
export const observed = byLook('observed', async (system, { workflowId }) => {
  const { turns } = await system.status();
  return turns.some((turn) => turn.workflow_id === workflowId);
});
export const planned = byLook('planned', async ({ client }, { workflowId }) => {
  const { events } = await client.workflow.getHandle(workflowId).fetchHistory();
  return (events ?? []).some(({ activityTaskScheduledEventAttributes: scheduled }) =>
    STEPS.includes(scheduled?.activityType?.name ?? ''),
  );
});
export const concluded = byLook('concluded', (system, since) =>
  Promise.resolve(
    journalOnDisk(system).some(
      ({ sequence, workflowId }) => sequence > since.journal && workflowId === since.workflowId,
    ),
  ),
);
export const released = byLook('released', async (system, since) => {
  const { turns, queue } = await system.hostState();
  const ended = journalOnDisk(system).some(
    ({ sequence, type, workflowId }) =>
      sequence > since.journal && type === 'operation' && workflowId === since.workflowId,
  );
  return ended && [...turns, ...queue].every(({ operation }) => operation.workflowId !== since.workflowId);
});

/** A caller names its workflow itself: the host knows it as soon as it asks for its turn. */
export async function idOfAsked(system: System, isMeant: (goal: OperationGoal) => boolean): Promise<string> {
  const end = Date.now() + BOUND_MS;
  while (Date.now() < end) {
    const { turns, queue } = await system.hostState();
    const asked = [...turns, ...queue].find(({ goal }) => isMeant(goal));
    if (asked) return asked.operation.workflowId;
    await pause(LOOK_MS);
  }
  throw new Error('the operation did not ask for its turn');
}

/** Read beside the agent: it may be the one that is killed. A line that is half written is not there yet. */
export function journalOnDisk({ folder, host }: System): JournalEntry[] {
  return readFileSync(`${folder}/data/agents/${host}/simulated/journal.jsonl`, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as JournalEntry);
}

const ofVlm = (entry: RecordEntry): boolean => 'model' in entry;

const TO_RECORDING: Point[] = [
  granted,
  observed,
  planned,
  byRecord('the CLIP of the CPU is probed', (entry) => entry.kind === 'embed' && entry.device === 'cpu'),
  byRecord('CLIP has left the GPU', (entry) => entry.kind === 'freed' && entry.holderKind === 'embedder'),
  byRecord('the load has begun', (entry) => entry.kind === 'load-start' && ofVlm(entry)),
  byRecord(
    'the load is half done',
    (entry) => entry.kind === 'allocated' && entry.holderKind === 'runner' && entry.holderMb > 5_000,
  ),
  byRecord('the load has ended', (entry) => entry.kind === 'load-end' && ofVlm(entry)),
  concluded,
  released,
];

const TO_AUTOPILOT: Point[] = [
  granted,
  observed,
  planned,
  byRecord('the unload has begun', (entry) => entry.kind === 'unload-start' && ofVlm(entry)),
  byRecord('Ollama lists the VLM no more', (entry) => entry.kind === 'gone'),
  byRecord('the memory is back', (entry) => entry.kind === 'reclaimed'),
  byRecord('CLIP starts on the GPU', (entry) => entry.kind === 'process-start' && entry.holderKind === 'embedder'),
  byRecord('the CLIP of the GPU is probed', (entry) => entry.kind === 'embed' && entry.device === 'cuda'),
  concluded,
  released,
];

export type Mode = 'recording' | 'autopilot';

/** Both directions in turn, so that each case begins where the one before has ended. */
export const POINTS: { mode: Mode; point: Point }[] = TO_RECORDING.flatMap((point, index) => {
  const back = TO_AUTOPILOT[index];
  return [{ mode: 'recording' as const, point }, ...(back ? [{ mode: 'autopilot' as const, point: back }] : [])];
});
