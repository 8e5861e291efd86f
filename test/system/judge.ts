/** What the simulator's record says, in the words of the tests: the judge is the record, not vramflow. */
import { expect } from 'vitest';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { type RecordEntry, violations } from '../../src/simulator/record.js';
import type { System } from './system.js';

type Kind = RecordEntry['kind'];
type Entry<K extends Kind> = Extract<RecordEntry, { kind: K }>;

/** What `-o json` prints for an operation. */
export interface Printed {
  workflow_id: string;
  run_id: string;
  outcome: OperationOutcome;
}

/** The entries after this moment, asked for later. */
export function fromNow(system: System): () => readonly RecordEntry[] {
  const seq = system.simulator.recorder.lastSeq;
  return () => system.simulator.record().filter((entry) => entry.seq > seq);
}

/** The entries of one kind; `about` narrows them to those that have these values. */
export function entriesOf<K extends Kind>(
  record: readonly RecordEntry[],
  kind: K,
  about: Partial<Entry<K>> = {},
): Entry<K>[] {
  return record.filter(
    (entry): entry is Entry<K> =>
      entry.kind === kind &&
      Object.entries(about).every(([key, value]) => (entry as Record<string, unknown>)[key] === value),
  );
}

/** What changed in the residency: loads begun, unloads begun, GPU processes that came or went. */
export const changesIn = (record: readonly RecordEntry[]): RecordEntry[] =>
  record.filter(({ kind }) => ['load-start', 'unload-start', 'process-start', 'process-end'].includes(kind));

/** No card over its total, no out-of-memory of ours, and books that balance. */
export function expectNoViolation(system: System): void {
  expect(violations(system.simulator.record())).toEqual([]);
}

/** The models that the simulated Ollama has, and which of them are still loading. */
export const loadedModels = (system: System): { name: string; loading: boolean }[] =>
  system.simulator.ollama.runners.map((runner) => ({ name: runner.model.name, loading: runner.loading }));

/** MB on the only card, by kind of holder. */
export function heldMb(system: System, kind: 'runner' | 'embedder' | 'compute'): number {
  const { cards, processes } = system.simulator.gpuHost;
  const holders = processes.filter((process) => process.kind === kind).map(({ holder }) => holder);
  return cards.flatMap((card) => holders.map((holder) => card.holdings.get(holder) ?? 0)).reduce((a, b) => a + b, 0);
}

/** A program of somebody else that holds VRAM; ends with the returned function. */
export function stranger(system: System, mb: number, name = '/usr/bin/blender') {
  const { gpuHost } = system.simulator;
  const process = gpuHost.startProcess('compute', name);
  gpuHost.resize(process, gpuHost.card(0).spec.uuid, mb);
  return { pid: process.pid, alive: () => !process.ended, end: () => void gpuHost.end(process) };
}
