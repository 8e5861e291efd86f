import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ContainerState } from './container.js';
import type { FaultParams } from './faults.js';
import type { ProcessSnapshot } from './gpuHost.js';
import type { RunnerOptions } from './ollamaRunner.js';
import type { Placement } from './placement.js';

/** A loaded model, as a restart needs it. */
export interface RunnerState {
  readonly pid: number;
  readonly model: string;
  readonly options: RunnerOptions;
  readonly placement: Placement;
  /** Simulated ms; null is for ever. */
  readonly sessionMs: number | null;
  /** Simulated ms it still had to stay; null is for ever. */
  readonly leftMs: number | null;
}

/** What a simulator that is started again goes on with. */
export interface SavedState {
  readonly version: 1;
  readonly preset: string;
  readonly lastSeq: number;
  readonly processes: readonly ProcessSnapshot[];
  readonly runners: readonly RunnerState[];
  /** Missing in a file of an earlier version. */
  readonly containers?: readonly ContainerState[];
  readonly faults: readonly {
    readonly name: string;
    readonly params: FaultParams;
    readonly remaining: number | null;
  }[];
}

/** Null when there is none yet. @throws when the file is not a saved state. */
export function readState(path: string): SavedState | null {
  if (!existsSync(path)) return null;
  const state = JSON.parse(readFileSync(path, 'utf8')) as SavedState;
  if (state.version !== 1) throw new Error(`${path} is no state of this simulator; remove it or name another file`);
  return state;
}

/** Whole or not at all: a kill while it writes leaves the former state. */
export function writeState(path: string, state: SavedState): void {
  const beside = `${path}.${process.pid}.tmp`;
  writeFileSync(beside, JSON.stringify(state));
  renameSync(beside, path);
}
