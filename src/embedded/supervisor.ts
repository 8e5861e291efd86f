/**
 * Keeps the parts of vramflow on one host running: one supervisor per data folder, a process of its own.
 * Nothing of what it supervises holds state, so a successor ends what a killed one left and starts it anew.
 */
import { join } from 'node:path';

import { z } from 'zod';

import { type ChildSpec, keepRunning } from './children.js';
import { markerOf, readRecord, writeRecord } from './detached.js';
import { EmbeddedServerError } from './errors.js';
import { tryLock } from './lock.js';
import { endProcess, findByMarker, identify, identitySchema, lives } from './processProof.js';
import { RESTART_POLICY, type RestartPolicy } from './restartPolicy.js';

const PART = 'supervisor';
const CHILD_PART = 'supervised';

export const supervisorFiles = (dataFolder: string) => ({
  record: join(dataFolder, 'supervisor.json'),
  log: join(dataFolder, 'supervisor.log'),
});

export const supervisorMarker = (dataFolder: string): string => markerOf(dataFolder, PART);

/** What a caller wants to know of a running one. */
const factsSchema = z.object({
  host: z.string(),
  temporal: z.string(),
  /** Null: somebody else's server, whose UI we do not know. */
  webUi: z.string().nullable(),
  agent: z.string(),
  /** The preset of the simulated host; null: real hardware. */
  simulated: z.string().nullable(),
});

export type Facts = z.infer<typeof factsSchema>;

const recordSchema = z.object({
  process: identitySchema.nullable(),
  ready: z.boolean(),
  facts: factsSchema.nullable(),
});

export type SupervisorRecord = z.infer<typeof recordSchema>;

/** What the supervisor's process is to run; `src/cli/commands/up.ts` brings it. */
export interface Undertaking {
  children: readonly ChildSpec[];
  /** Keeps up, until the signal, what is needed and is no child. */
  keep(signal: AbortSignal): Promise<void>;
  /** Resolves when all of it answers, with what is to be known of it. */
  waitReady(signal: AbortSignal): Promise<Facts>;
}

export interface SupervisorOptions {
  dataFolder: string;
  /** Brings up what the children need. */
  bringUp(signal: AbortSignal): Promise<Undertaking>;
  say: (line: string) => void;
  /** Ends the children, then resolves. */
  signal: AbortSignal;
  policy?: RestartPolicy;
  /** From SIGTERM to SIGKILL for each child, default 10,000. */
  graceMs?: number;
}

/**
 * Runs until the signal; to be called in a process of its own.
 * @throws EmbeddedServerError `locked` when another one runs; `child-failed`; whatever `bringUp` throws
 */
export async function runSupervisor(options: SupervisorOptions): Promise<void> {
  const { dataFolder, say } = options;
  const { record: file } = supervisorFiles(dataFolder);
  const lock = await tryLock(file);
  if (lock === null) {
    throw new EmbeddedServerError(
      'locked',
      'A supervisor of this data folder runs already.',
      '`vramflow down` ends it.',
    );
  }
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const record: SupervisorRecord = {
    process: await identify(process.pid, supervisorMarker(dataFolder)),
    ready: false,
    facts: null,
  };
  try {
    await writeRecord(file, record);
    const orphans = await endChildren(dataFolder);
    if (orphans > 0) say(`Ended ${orphans} worker process(es) that a former supervisor left.`);
    const undertaking = await options.bringUp(signal);
    const watch = { say, signal, marker: markerOf(dataFolder, CHILD_PART), graceMs: options.graceMs ?? 10_000 };
    const policy = options.policy ?? RESTART_POLICY;
    const untilReady = async () => {
      const facts = await undertaking.waitReady(signal);
      await writeRecord(file, { ...record, ready: true, facts });
    };
    const parts = [
      untilReady(),
      undertaking.keep(signal),
      ...undertaking.children.map((spec) => keepRunning(spec, { ...watch, policy })),
    ];
    // One that fails ends the others.
    await Promise.all(parts.map((part) => part.catch((error: unknown) => failed.abort(error))));
    if (failed.signal.aborted && !options.signal.aborted) throw failed.signal.reason;
  } finally {
    await writeRecord(file, { ...record, process: null });
    await lock.release();
  }
}

/** The record of the supervisor that lives, proven; null when none does. */
export async function findSupervisor(dataFolder: string): Promise<SupervisorRecord | null> {
  const record = await readRecord(supervisorFiles(dataFolder).record, recordSchema);
  if (record?.process != null && (await lives(record.process))) return record;
  const [unrecorded = null] = await findByMarker(supervisorMarker(dataFolder));
  return unrecorded === null ? null : { process: unrecorded, ready: false, facts: null };
}

/**
 * Ends the supervisor by proof, and with it (or after it, when it was killed) its children.
 * @returns what was ended
 */
export async function stopSupervisor(dataFolder: string): Promise<{ supervisor: number | null; orphans: number }> {
  const found = await findSupervisor(dataFolder);
  // Its own end of the children takes up to their grace.
  if (found?.process != null) await endProcess(found.process, 20_000);
  return { supervisor: found?.process?.pid ?? null, orphans: await endChildren(dataFolder) };
}

async function endChildren(dataFolder: string): Promise<number> {
  const orphans = await findByMarker(markerOf(dataFolder, CHILD_PART));
  await Promise.all(orphans.map((orphan) => endProcess(orphan, 10_000)));
  return orphans.length;
}
