/** M6, M8, M15: each change has its event, and each event is true, by the record and the histories. */
import type { JournalEntry, JournalType } from '../../src/contracts/journal.js';
import { CPU, EMBEDDER, isModel, tenantName } from '../../src/contracts/names.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import {
  END_NOTED_MS,
  type Evidence,
  heldBy,
  isOf,
  isWithin,
  othersTook,
  own,
  SLACK_MS,
  timeOf,
  wall,
} from './evidence.js';
import type { StepWindow } from './operations.js';

const ofType = ({ journal }: Pick<Evidence, 'journal'>, ...types: JournalType[]): JournalEntry[] =>
  journal.filter(({ type }) => types.includes(type));

/** M6, M15: `model_unloaded` has the figures that prove it, and `model_loaded` a load. */
export function modelEventsAreTrue(evidence: Evidence): string[] {
  const { record } = evidence;
  const complaints: string[] = [];
  for (const entry of ofType(evidence, 'model_unloaded')) {
    const { beforeMb, afterMb, by } = entry.details as Record<'beforeMb' | 'afterMb', Record<string, number | null>> & {
      by?: string;
    };
    const complete = Object.keys(beforeMb ?? {}).length > 0 && Object.keys(afterMb ?? {}).length > 0 && by;
    if (!complete) complaints.push(`M15: model_unloaded without its proof: ${JSON.stringify(entry)}`);
    const model = tenantName(entry.subject ?? '');
    const end = record.filter(isOf('gone')).findLast((one) => one.model === model && wall(one) <= timeOf(entry));
    if (end === undefined) {
      complaints.push(`M6: ${entry.message}: the record has no end of it`);
      continue;
    }
    const left = heldBy(record, end.holder, timeOf(entry));
    if (left > 0) complaints.push(`M6: ${entry.message}, but its process still holds ${left} MB`);
  }
  for (const entry of ofType(evidence, 'model_loaded')) {
    const model = tenantName(entry.subject ?? '');
    const loaded = record
      .filter(isOf('load-end'))
      .some((one) => one.model === model && one.outcome === 'loaded' && wall(one) <= timeOf(entry) + SLACK_MS);
    if (!loaded) complaints.push(`M15: ${entry.message}, but the record has no such load`);
  }
  return complaints;
}

/** M15: on a calm host each change that a step made is told once. */
export function modelChangesAreTold(evidence: Evidence): string[] {
  if (!evidence.calm) return [];
  const complaints: string[] = [];
  const changes = own(evidence);
  const during = (entry: RecordEntry, kind: StepWindow['kind'], tenant: string): StepWindow[] =>
    evidence.windows.filter((step) => step.kind === kind && step.tenant === tenant && isWithin(wall(entry), step));
  const gone = new Set(changes.filter(isOf('gone')).map(({ holder }) => holder));
  // What Ollama does after a load that was cancelled or failed is the rest of that load.
  const unloads = changes
    .filter(isOf('unload-start'))
    .filter((one) => !one.reason.startsWith('load ') && gone.has(one.holder))
    .filter((one) => during(one, 'unload', `model/${one.model}`).length > 0);
  const told = ofType(evidence, 'model_unloaded').length;
  if (told !== unloads.length) complaints.push(`M15: ${unloads.length} unloads, ${told} model_unloaded events`);
  // One that comes although its attempt was cut short is told of when somebody proves it.
  const starts = changes.filter(isOf('load-start'));
  const windows = starts.map((one) => during(one, 'load', `model/${one.model}`));
  const certain = windows.filter((steps) => steps.some(({ ended }) => ended === 'completed')).length;
  const possible = windows.filter((steps) => steps.length > 0).length;
  const loaded = ofType(evidence, 'model_loaded').length;
  if (loaded < certain || loaded > possible) {
    complaints.push(`M15: ${certain} loads, ${possible} with those cut short, ${loaded} model_loaded events`);
  }
  return complaints;
}

/** M15, M19: an operation that fails by a model tells it once, and nothing else does; a calm host has no reason to. */
export function failuresAreTold(evidence: Evidence): string[] {
  const complaints: string[] = [];
  const told = ofType(evidence, 'load_failed', 'unload_failed');
  const failed = evidence.runs.filter(
    ({ outcome }) => outcome?.status === 'failed' && outcome.failedTenant !== null && isModel(outcome.failedTenant),
  );
  for (const { workflowId, runId, outcome } of failed) {
    const count = told.filter((one) => one.details['runId'] === runId && one.subject === outcome?.failedTenant).length;
    if (count !== 1) complaints.push(`M15: ${workflowId} failed by ${outcome?.failedTenant}, told ${count} times`);
  }
  for (const entry of told) {
    const kind = entry.type === 'load_failed' ? 'load' : 'unload';
    const steps = evidence.windows.filter(
      (step) => step.runId === entry.details['runId'] && step.kind === kind && step.tenant === entry.subject,
    );
    if (steps.length === 0) complaints.push(`M15: ${entry.type} of ${entry.subject}, but it had no ${kind}`);
    const fromMs = Math.min(...steps.map((step) => step.fromMs)) - SLACK_MS;
    if (evidence.calm && !othersTook(evidence, fromMs, timeOf(entry))) {
      complaints.push(`M15: ${entry.type} on a calm host: ${entry.message}`);
    }
  }
  return complaints;
}

/** M15: `mode_changed` tells each switch that was carried out and went elsewhere, and nothing else. */
export function modesAreTold(evidence: Pick<Evidence, 'journal' | 'runs' | 'trace'>): string[] {
  let mode = evidence.trace.mode;
  const expected: string[] = [];
  const inOrder = [...evidence.runs].sort((a, b) => (a.releasedMs ?? 0) - (b.releasedMs ?? 0));
  for (const { goal, outcome, workflowId } of inOrder) {
    if (goal.kind !== 'mode' || outcome?.status !== 'done' || goal.mode === mode) continue;
    expected.push(`${mode} → ${goal.mode} by ${workflowId}`);
    mode = goal.mode;
  }
  const told = ofType(evidence, 'mode_changed').map(
    ({ details, workflowId }) => `${String(details['from'])} → ${String(details['to'])} by ${workflowId}`,
  );
  const same = told.length === expected.length && told.every((one, index) => one === expected[index]);
  return same ? [] : [`M15: the mode went ${expected.join(', ') || 'nowhere'}; told: ${told.join(', ') || 'nothing'}`];
}

/** M8, M15: after `device_changed` CLIP is where it says, and a probe has asked it there; on a calm host each move is told. */
export function movesAreTold(evidence: Evidence): string[] {
  const complaints: string[] = [];
  const { record, windows } = evidence;
  const told = ofType(evidence, 'device_changed');
  for (const entry of told) {
    const to = String(entry.details['to']);
    const what = `CLIP is said to be on ${to} (${entry.time})`;
    const step = windows.findLast((one) => one.tenant === EMBEDDER && one.to === to && one.fromMs <= timeOf(entry));
    const device = to === CPU ? 'cpu' : 'cuda';
    const isProbed = record
      .filter(isOf('embed'))
      .some((one) => one.device === device && step && isWithin(wall(one), { ...step, toMs: timeOf(entry) }));
    if (!isProbed) complaints.push(`M8: ${what}, and no probe asked it there`);
    if (embedderOnGpu(record, timeOf(entry), to === CPU ? END_NOTED_MS : 0) !== (to !== CPU))
      complaints.push(`M15: ${what}, and is not`);
  }
  if (!evidence.calm) return complaints;
  const moves = windows
    .filter(({ kind, tenant }) => kind === 'move' && tenant === EMBEDDER)
    .filter((step) => {
      const kind = step.to === CPU ? 'process-end' : 'process-start';
      const within = { fromMs: step.fromMs + SLACK_MS, toMs: step.toMs + (step.to === CPU ? END_NOTED_MS : 0) };
      return own(evidence)
        .filter(isOf(kind))
        .some((entry) => entry.holderKind === 'embedder' && isWithin(wall(entry), within));
    });
  const certain = moves.filter(({ ended }) => ended === 'completed').length;
  if (told.length < certain || told.length > moves.length) {
    complaints.push(
      `M15: ${certain} moves, ${moves.length} with those cut short, ${told.length} device_changed events`,
    );
  }
  return complaints;
}

/** By the processes of the record: whether one lives at a moment, without those whose end is noted so much later. */
function embedderOnGpu(record: readonly RecordEntry[], at: number, endNotedMs: number): boolean {
  const living = new Set<string>();
  for (const entry of record.filter(isOf('process-start', 'process-end'))) {
    if (entry.holderKind !== 'embedder') continue;
    if (entry.kind === 'process-start' && wall(entry) <= at) living.add(entry.holder);
    if (entry.kind === 'process-end' && wall(entry) <= at + endNotedMs) living.delete(entry.holder);
  }
  return living.size > 0;
}
