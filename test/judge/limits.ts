/** M4, M19, M20: what has a time limit keeps it, by the record. */
import { availableParallelism, loadavg } from 'node:os';
import { FAILURE } from '../../src/contracts/failures.js';
import { modelTenant, tenantName } from '../../src/contracts/names.js';
import { type Evidence, isOf, isWithin, nameOf, own, wall } from './evidence.js';
import type { StepWindow } from './operations.js';

/** That a limit has passed is seen, and acted upon, so much later. */
const LATE_MS = 1_000;
/** What a switch takes beside its unload or load: messages to the server and back, and a look. */
const MESSAGES_MS = 3_000;
/** M20: an example takes so long at the most. */
const EXAMPLE_MS = 30_000;

/** By how much more than it can the machine has to do: all that is ours takes so many times longer then. At least 1. */
export const busyness = (): number => Math.max(1, (loadavg()[0] ?? 0) / availableParallelism());

const isOfModel = ({ tenant, kind }: StepWindow): boolean => tenant.startsWith('model/') && kind !== 'move';

const limitOf = ({ kind }: StepWindow, { settings }: Pick<Evidence, 'settings'>): number =>
  kind === 'load' ? settings.loadMs : settings.unloadMs;

/** M4, M19: in an attempt that was well all is done within its time; a load that is not is ended then. */
export function attemptsKeepTheirTime(evidence: Evidence): string[] {
  const changes = own(evidence);
  return evidence.windows.filter(isOfModel).flatMap((step) => {
    if (step.startedMs === null) return [];
    const dueMs = step.startedMs + limitOf(step, evidence) + LATE_MS * evidence.busy;
    const model = tenantName(step.tenant);
    const isLate = (entry: { at: string }): boolean => wall(entry) > dueMs;
    const inStep = changes.filter((entry) => isWithin(wall(entry), step));
    const holders = inStep.filter(isOf('load-start', 'unload-start')).filter((one) => one.model === model);
    const complain = (what: string, { at }: { at: string }): string => {
      const ms = Date.parse(at) - (step.startedMs ?? 0);
      return `M4: ${what} after ${ms} ms of an attempt (${nameOf(step)})`;
    };
    if (step.kind === 'load') {
      return changes
        .filter(isOf('load-end'))
        .filter((end) => holders.some(({ kind, holder }) => kind === 'load-start' && holder === end.holder))
        .filter(isLate)
        .map((end) => complain(`the load of ${model} was ${end.outcome}`, end));
    }
    if (step.ended !== 'completed') return [];
    return inStep
      .filter(isOf('gone', 'freed'))
      .filter((entry) => holders.some(({ kind, holder }) => kind === 'unload-start' && holder === entry.holder))
      .filter(isLate)
      .map((entry) => complain(`${model} was ${entry.kind}`, entry));
  });
}

/** Not an attempt of the model's: the world moved, or somebody else has the turn. */
const NO_ATTEMPT: (string | null)[] = [
  null,
  FAILURE.premiseGone,
  FAILURE.driverUnavailable,
  FAILURE.agentAway,
  FAILURE.fenced,
  FAILURE.staleEpoch,
];

/** M19: up to so many retries. */
export function attemptsAreCounted({ windows, settings }: Pick<Evidence, 'windows' | 'settings'>): string[] {
  const tried = new Map<string, number>();
  for (const step of windows.filter(isOfModel)) {
    if (step.ended !== 'failed' || NO_ATTEMPT.includes(step.failure)) continue;
    const key = `${nameOf(step)} (${step.runId})`;
    tried.set(key, (tried.get(key) ?? 0) + 1);
  }
  return [...tried]
    .filter(([, count]) => count > settings.maxRetries + 1)
    .map(([key, count]) => `M19: ${count} attempts failed: ${key}`);
}

/** M4: a switch on a calm host unloads the VLM within the time of one unload, or has it loaded within that of one load. */
export function switchesKeepTheirTime({ calm, runs, windows, settings, busy }: Evidence): string[] {
  if (!calm) return [];
  return runs.flatMap(({ goal, workflowId, runId, grantedMs, outcome }) => {
    const kind = goal.kind === 'mode' && ({ autopilot: 'unload', recording: 'load' } as const)[goal.mode];
    if (!kind || outcome?.status !== 'done' || grantedMs === null) return [];
    const ofRun = windows.filter((step) => step.runId === runId);
    // Only the first attempt of a switch that had nothing else to do before.
    const [first] = ofRun;
    if (first?.kind !== kind || first.tenant !== modelTenant(settings.vlm) || first.ended !== 'completed') return [];
    const ms = first.toMs - grantedMs;
    const limitMs = kind === 'load' ? settings.loadMs : settings.unloadMs;
    return ms <= limitMs + MESSAGES_MS * busy ? [] : [`M4: ${workflowId} took ${ms} ms to ${kind} the VLM`];
  });
}

/** M20 */
export const exampleKeepsItsTime = (ms: number, busy: number): string[] =>
  ms <= EXAMPLE_MS * busy ? [] : [`M20: the example took ${ms} ms`];
