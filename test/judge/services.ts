/** Judges what happened to services: by the simulator's record and the server's histories, not by what vramflow believes. */
import type { JournalEntry } from '../../src/contracts/journal.js';
import { serviceTenant } from '../../src/contracts/names.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import { livingServices } from '../system/mediaPipeline.js';
import type { System } from '../system/system.js';
import { END_NOTED_MS, SLACK_MS } from './evidence.js';
import { memory } from './memory.js';
import { operationsSince, type StepWindow } from './operations.js';
import { oneAfterTheOther } from './order.js';
import type { Trace } from './trace.js';

export interface ServiceTrace extends Trace {
  /** Pids that the test killed. */
  killed: Set<number>;
}

export interface ServiceEvidence {
  record: readonly RecordEntry[];
  /** Since the trace began. */
  journal: JournalEntry[];
  windows: StepWindow[];
  trace: ServiceTrace;
  /** By service. */
  priorities: Record<string, number>;
}

/** P8, law 4: complains as soon as two processes of one service live. */
export function watchForTwins(system: System, names: readonly string[], complain: (what: string) => void): void {
  system.simulator.gpuHost.onChange(() => {
    for (const name of names) {
      const pids = livingServices(system, name).map(({ pid }) => pid);
      if (pids.length > 1) complain(`P8: ${name} runs twice at once: ${pids.join(' and ')}`);
    }
  });
}

export async function judgeServices(
  system: System,
  trace: ServiceTrace,
  priorities: Record<string, number>,
): Promise<string[]> {
  const journal = await system.journalAfter(trace.firstJournal);
  const { windows } = await operationsSince(system.client, system.host, trace.startedMs, journal);
  return judgeServiceEvidence({ record: system.simulator.record(), journal, windows, trace, priorities });
}

export const judgeServiceEvidence = (evidence: ServiceEvidence): string[] => [
  ...evidence.trace.seen,
  ...memory(evidence),
  ...oneAfterTheOther(evidence),
  ...stopsHaveAReason(evidence),
  ...higherOnesStay(evidence),
  ...memoryBackFirst(evidence),
];

const wall = (entry: { at: string }): number => Date.parse(entry.at);

type ServiceEnd = Extract<RecordEntry, { kind: 'process-start' | 'process-end' }>;
const isEnd = (entry: RecordEntry): entry is ServiceEnd =>
  entry.kind === 'process-end' && entry.holderKind === 'service';

/** Law 3: a service ends in a step about it, by itself, or because the test killed it. */
function stopsHaveAReason(evidence: ServiceEvidence): string[] {
  const { record, trace, windows } = evidence;
  return record
    .filter(isEnd)
    .filter(({ seq, pid }) => seq > trace.firstSeq && !trace.killed.has(pid))
    .filter((end) => !diedByItself(record, end))
    .filter((end) => {
      const tenant = serviceTenant(end.name);
      return !windows.some(
        (step) =>
          step.tenant === tenant && step.fromMs - SLACK_MS <= wall(end) && wall(end) <= step.toMs + END_NOTED_MS,
      );
    })
    .map(({ name, pid, at }) => `law 3: ${name} (${pid}) ended at ${at}, in no step about it`);
}

/** A fault made it fail or crash, or it ran out of memory; that itself is judged elsewhere. */
function diedByItself(record: readonly RecordEntry[], end: ServiceEnd): boolean {
  const start = record.findLast(
    (entry) => entry.kind === 'process-start' && entry.holder === end.holder && entry.seq < end.seq,
  );
  const isMeant = (params: Record<string, unknown>) =>
    params['service'] === undefined || params['service'] === end.name;
  return record.some((entry) => {
    if (entry.kind === 'oom') return entry.holder === end.holder && entry.seq < end.seq;
    if (entry.kind !== 'fault-set' || entry.seq > end.seq) return false;
    if (!['service-crash', 'service-fail'].includes(entry.fault) || !isMeant(entry.params)) return false;
    const cleared = record.find(
      (one) => one.kind === 'fault-cleared' && one.fault === entry.fault && one.seq > entry.seq,
    );
    return cleared === undefined || cleared.seq > (start?.seq ?? 0);
  });
}

/** P5: but for a phase switch, nobody stops a service of higher priority; a stop stops only its own. */
function higherOnesStay({ windows, priorities, journal }: ServiceEvidence): string[] {
  return windows
    .filter(({ kind }) => kind === 'unload')
    .flatMap((step) => {
      const [what, , asked = '', verb] = step.workflowId.split('/');
      const victim = step.tenant.slice('service/'.length);
      const by = `${step.workflowId} stopped ${victim}`;
      if (what === 'reconcile') {
        const unwell = journal.some(({ type, subject }) => type === 'service_unhealthy' && subject === step.tenant);
        const anew = windows.some(
          (other) => other.runId === step.runId && other.kind === 'load' && other.tenant === step.tenant,
        );
        return unwell || anew ? [] : [`P5: ${by}, which worked`];
      }
      if (what !== 'service' || victim === asked) return [];
      if (verb === 'stop') return [`P5: ${by}`];
      const [higher, lower] = [priorities[victim] ?? 0, priorities[asked] ?? 0];
      return higher > lower ? [`P5: ${by} of priority ${higher}, its own is ${lower}`] : [];
    });
}

/** The proof takes a quarter for rounding, as Ollama's own check does. */
const ROUNDING = 0.26;

/** P6: within an operation nothing is started while what it stopped before on that card still holds its memory. */
function memoryBackFirst({ record, windows }: ServiceEvidence): string[] {
  const complaints: string[] = [];
  for (const load of windows.filter(({ kind }) => kind === 'load')) {
    const stops = windows.filter(
      ({ kind, runId, ended, toMs, devices }) =>
        kind === 'unload' &&
        runId === load.runId &&
        ended === 'completed' &&
        toMs <= load.fromMs &&
        devices.some((device) => load.devices.includes(device)),
    );
    for (const stop of stops) {
      const end = record
        .filter(isEnd)
        .findLast((entry) => serviceTenant(entry.name) === stop.tenant && wall(entry) <= stop.toMs + SLACK_MS);
      const held = record.flatMap((entry) =>
        (entry.kind === 'allocated' || entry.kind === 'freed') && entry.holder === end?.holder ? [entry] : [],
      );
      const mostMb = Math.max(0, ...held.map(({ holderMb }) => holderMb));
      const leftMb = held.findLast((entry) => wall(entry) <= load.fromMs)?.holderMb ?? 0;
      if (leftMb > mostMb * ROUNDING) {
        complaints.push(`P6: ${load.tenant} began while ${stop.tenant} still held ${leftMb} MB (${load.workflowId})`);
      }
    }
  }
  return complaints;
}
