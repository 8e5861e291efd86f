/** Law 3, M11: operations change a device one after the other, in their order, and nothing changes outside of them. */
import { EMBEDDER } from '../../src/contracts/names.js';
import { type Evidence, isOf, isWithin, nameOf, othersTook, own, SLACK_MS, wall } from './evidence.js';
import type { OperationRun } from './operations.js';

/** M11: no two changes of different operations overlap on a device, and no older epoch acts after a newer one. */
export function oneAfterTheOther({ windows }: Pick<Evidence, 'windows'>): string[] {
  const complaints: string[] = [];
  for (const [index, one] of windows.entries()) {
    for (const other of windows.slice(index + 1)) {
      if (other.runId === one.runId || !other.devices.some((device) => one.devices.includes(device))) continue;
      if (other.fromMs < one.toMs) {
        complaints.push(`M11: ${nameOf(other)} began ${one.toMs - other.fromMs} ms before ${nameOf(one)} had ended`);
      }
      for (const device of one.devices) {
        const [older, newer] = [one.epochs[device] ?? 0, other.epochs[device] ?? Number.POSITIVE_INFINITY];
        if (newer <= older)
          complaints.push(`law 3: ${nameOf(other)} acts with epoch ${newer} after ${older} on ${device}`);
      }
    }
  }
  return complaints;
}

/** Law 3, M11: what a calm host does to models and CLIP happens within a step of an operation about that tenant. */
export function attributed(evidence: Evidence): string[] {
  if (!evidence.calm) return [];
  const complaints: string[] = [];
  for (const entry of own(evidence)) {
    let tenant: string | null = null;
    // What Ollama does after a load that was cancelled or failed is the rest of that load.
    const isRest = entry.kind === 'unload-start' && entry.reason.startsWith('load ');
    if (isOf('load-start', 'unload-start')(entry) && !isRest) tenant = `model/${entry.model}`;
    if (isOf('process-start')(entry) && entry.holderKind === 'embedder') tenant = EMBEDDER;
    if (tenant === null) continue;
    const within = evidence.windows.some((step) => step.tenant === tenant && isWithin(wall(entry), step));
    const step = evidence.windows.find((window) => isWithin(wall(entry), window, 0));
    // Ollama evicts by itself where a stranger takes, between our look and its own, what was counted on.
    const isEvicted = entry.kind === 'unload-start' && entry.reason === 'evicted';
    if (isEvicted && step && othersTook(evidence, step.fromMs - SLACK_MS, wall(entry))) continue;
    const why = entry.kind === 'unload-start' ? ` (${entry.reason})` : '';
    if (!within) complaints.push(`law 3: ${entry.kind}${why} of ${tenant} at ${entry.at} belongs to no step`);
  }
  return complaints;
}

/**
 * M11: of those that wait when a turn is released, the next is the one of the highest priority, and among equals the one
 * that came first. Each asks for all devices, so the next is the only one.
 */
export function inTheirOrder({ runs }: Pick<Evidence, 'runs'>): string[] {
  return runs.flatMap((next) => {
    const { askedMs, grantedMs } = next;
    if (askedMs === null || grantedMs === null) return [];
    const ends = runs.filter((run) => run.grantedMs !== null).map((run) => run.releasedMs ?? 0);
    const waitedMs = Math.max(...ends.filter((ms) => ms <= grantedMs)) - SLACK_MS;
    if (askedMs > waitedMs) return [];
    return runs
      .filter((other) => other !== next && waits(other, waitedMs, grantedMs + SLACK_MS))
      .filter((other) => other.priority > next.priority || (other.priority === next.priority && isBefore(other, next)))
      .map((other) => `M11: ${describe(next)} had its turn before ${describe(other)}`);
  });
}

const waits = ({ askedMs, grantedMs, gaveUpMs, releasedMs }: OperationRun, fromMs: number, toMs: number): boolean =>
  askedMs !== null && askedMs < fromMs && [grantedMs, gaveUpMs, releasedMs].every((ms) => ms === null || ms > toMs);

const isBefore = (one: OperationRun, other: OperationRun): boolean =>
  (one.askedMs ?? Number.POSITIVE_INFINITY) < (other.askedMs ?? 0) - SLACK_MS;

const describe = ({ workflowId, priority }: OperationRun): string => `${workflowId} (priority ${priority})`;

/** M1, M11: the switch that was started last counts, told by when the server started each. */
export function newestSwitchWins({ runs, trace, mode }: Pick<Evidence, 'runs' | 'trace' | 'mode'>): string[] {
  const switches = runs.flatMap((run) => (run.goal.kind === 'mode' ? [{ ...run, mode: run.goal.mode }] : []));
  const complaints = switches
    .filter(({ outcome }) => outcome?.status === 'superseded')
    .filter((one) => !switches.some((other) => other.runId !== one.runId && other.startedMs >= one.startedMs))
    .map(({ workflowId }) => `M11: ${workflowId} was superseded, and no switch was started after it`);
  const done = switches.filter(({ outcome }) => outcome?.status === 'done');
  for (const { workflowId, mode, startedMs, grantedMs } of done) {
    const newer = switches.find(
      (other) =>
        other.mode !== mode &&
        other.startedMs > startedMs &&
        other.askedMs !== null &&
        other.askedMs < (grantedMs ?? 0) - SLACK_MS,
    );
    if (newer !== undefined) complaints.push(`M11: ${workflowId} was carried out after ${newer.workflowId} had come`);
  }
  const newestMs = Math.max(...done.map(({ startedMs }) => startedMs));
  const newest = done.filter(({ startedMs }) => startedMs === newestMs).map((one) => one.mode);
  const reached = newest.length === 0 ? [trace.mode] : newest;
  if (!reached.includes(mode)) complaints.push(`M1: the mode is ${mode}, the newest switch went to ${reached[0]}`);
  return complaints;
}
