/** Operations started as any client may start them, and the moments between which tests act. */
import { randomUUID } from 'node:crypto';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { CONTROL_QUEUE } from '../../src/contracts/names.js';
import type { OperationGoal, OperationInput } from '../../src/contracts/operation.js';
import { loadedModels } from './judge.js';
import type { System } from './system.js';

export function startOperation(system: System, goal: OperationGoal, priority = 50) {
  const input: OperationInput = { host: system.host, goal, requestedBy: 'a test', priority };
  return system.client.workflow.start(goal.kind === 'mode' ? 'modeTransition' : 'modelOperation', {
    workflowId: `${goal.kind}/${system.host}/${randomUUID()}`,
    taskQueue: CONTROL_QUEUE,
    args: [input],
  });
}

export const loadOf = (model: string, verb: 'load' | 'unload' = 'load'): OperationGoal => ({
  kind: 'model',
  tenant: `model/${model}`,
  verb,
  demand: false,
});

/** Resolves while Ollama is loading the model. */
export const isLoading = (system: System, model: string) =>
  system.until(`${model} is loading`, () => loadedModels(system).some((one) => one.name === model && one.loading));

/** Resolves when an operation waits for its turn; any one, or this workflow's. */
export async function isQueued(system: System, id?: string): Promise<void> {
  for (;;) {
    const { queue } = await system.hostState();
    if (queue.some(({ operation }) => id === undefined || operation.workflowId === id)) return;
  }
}

/** Resolves when nothing runs and nothing waits. */
export async function isQuiet(system: System): Promise<void> {
  for (let busy = true; busy; ) {
    const { turns, queue } = await system.hostState();
    busy = turns.length > 0 || queue.length > 0;
  }
  await system.until('the fence is empty', ({ turns }) => turns.length === 0);
}

/** The journal's entry of an operation that has ended. */
export async function operationEntry(system: System, id: string): Promise<JournalEntry> {
  const [entry] = (await system.journal('operation')).filter((one) => one.workflowId === id);
  if (entry === undefined) throw new Error(`the journal has no operation ${id}`);
  return entry;
}
