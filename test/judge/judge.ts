/** Judges a sequence by the simulator's record and the server's histories, not by what vramflow believes. */
import type { JournalEntry } from '../../src/contracts/journal.js';
import { EMBEDDER, tenantName } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import { type RecordEntry, violations } from '../../src/simulator/record.js';
import type { System } from '../system/system.js';
import { type StepWindow, stepWindows } from './operations.js';
import type { Trace } from './trace.js';

export interface Evidence {
  /** All of the host's record; the sequence's part begins after `trace.firstSeq`. */
  record: readonly RecordEntry[];
  /** The journal since the sequence began. */
  journal: JournalEntry[];
  windows: StepWindow[];
  trace: Trace;
  calm: boolean;
  vlm: string;
  idleTimeoutSeconds: number;
}

/** Between the processes' clocks and the order in which they write down: ms. */
const SLACK_MS = 150;

type Of<K extends RecordEntry['kind'], E = RecordEntry> = E extends { kind: infer Kind }
  ? K & Kind extends never
    ? never
    : E
  : never;
const isOf =
  <K extends RecordEntry['kind']>(...kinds: K[]) =>
  (entry: RecordEntry): entry is Of<K> =>
    kinds.includes(entry.kind as K);

const wall = (entry: { at: string }): number => Date.parse(entry.at);

/** Gathers the evidence and judges what happened on a host since its trace began. */
export async function judgeHost(system: System, trace: Trace, { calm }: { calm: boolean }): Promise<string[]> {
  const journal = (await system.journal()).filter(({ sequence }) => sequence > trace.firstJournal);
  return judge({
    record: system.simulator.record(),
    journal,
    windows: await stepWindows(system.client, system.host, trace.startedMs, journal),
    trace,
    calm,
    vlm: system.config.vlm_model,
    idleTimeoutSeconds: Number(system.config.idle_timeout_seconds),
  });
}

export function judge(evidence: Evidence): string[] {
  return [
    ...evidence.trace.seen,
    ...memory(evidence),
    ...lifeOfModels(evidence),
    ...oneAfterTheOther(evidence),
    ...attributed(evidence),
    ...clipLeavesFirst(evidence),
    ...outcomesAreTrue(evidence),
    ...events(evidence),
    ...idleUnloads(evidence),
    ...strangers(evidence),
  ];
}

const own = ({ record, trace }: Evidence): RecordEntry[] => record.filter(({ seq }) => seq > trace.firstSeq);

/** No card over its total, no out-of-memory, books that balance. What others took in the middle of a step excuses it. */
export function memory(evidence: Pick<Evidence, 'record' | 'trace' | 'windows'>): string[] {
  const { record, trace, windows } = evidence;
  return violations(record)
    .filter(({ seq }) => seq > trace.firstSeq)
    .filter((violation) => {
      if (violation.kind !== 'out-of-memory') return true;
      if (violation.holderKind === 'compute') return false;
      const at = wall(record.find(({ seq }) => seq === violation.seq) ?? { at: '' });
      const step = windows.find(({ fromMs, toMs }) => fromMs - SLACK_MS <= at && at <= toMs + SLACK_MS);
      const from = step?.fromMs ?? at;
      return !othersTook(evidence, from - SLACK_MS, at);
    })
    .map(({ kind, message }) => `${kind}: ${message}`);
}

/** Somebody outside vramflow took memory between two moments. */
const othersTook = (evidence: Pick<Evidence, 'record' | 'trace'>, fromMs: number, toMs: number): boolean =>
  evidence.record
    .filter(isOf('allocated'))
    .some(
      (entry) =>
        wall(entry) >= fromMs &&
        wall(entry) <= toMs &&
        (entry.holderKind === 'compute' || (entry.holderKind === 'runner' && isDirect(evidence, wall(entry)))),
    );

const isDirect = ({ trace }: Pick<Evidence, 'trace'>, at: number): boolean =>
  trace.direct.some(({ fromMs, toMs }) => fromMs - SLACK_MS <= at && at <= toMs + SLACK_MS);

/** M3: each runner is loaded once, then unloads, then is gone; and a model has one runner at a time. */
function lifeOfModels(evidence: Evidence): string[] {
  const complaints: string[] = [];
  const living = new Map<string, string>();
  const stage = new Map<string, string>();
  const before: Record<string, (string | undefined)[]> = {
    'load-start': [undefined],
    'load-end': ['load-start'],
    'unload-start': ['load-end'],
    gone: ['unload-start'],
  };
  for (const entry of evidence.record.filter(
    isOf('load-start', 'load-end', 'unload-start', 'gone', 'process-end', 'ollama-stopped'),
  )) {
    if (entry.kind === 'ollama-stopped') living.clear();
    if (!('model' in entry)) continue;
    const { model, holder, kind } = entry;
    const former = stage.get(holder);
    if (entry.seq > evidence.trace.firstSeq && !before[kind]?.includes(former)) {
      complaints.push(`M3: ${kind} of ${model} (${holder}) after ${former ?? 'nothing'}`);
    }
    stage.set(holder, kind);
    if (kind === 'load-start') {
      const other = living.get(model);
      if (other !== undefined && entry.seq > evidence.trace.firstSeq) {
        complaints.push(`M9: ${model} is loaded a second time (${holder}) while ${other} is there`);
      }
      living.set(model, holder);
    }
    if (kind === 'gone' && living.get(model) === holder) living.delete(model);
  }
  return complaints;
}

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

const nameOf = ({ workflowId, kind, tenant }: StepWindow): string => `${kind} ${tenant} of ${workflowId}`;

/** Law 3, M11: what a calm host does to models and CLIP happens within a step of an operation about that tenant. */
function attributed(evidence: Evidence): string[] {
  if (!evidence.calm) return [];
  const complaints: string[] = [];
  for (const entry of own(evidence)) {
    let tenant: string | null = null;
    // What Ollama does after a load that was cancelled or failed is the rest of that load.
    const isRest = entry.kind === 'unload-start' && entry.reason.startsWith('load ');
    if (isOf('load-start', 'unload-start')(entry) && !isRest) tenant = `model/${entry.model}`;
    if (isOf('process-start')(entry) && entry.holderKind === 'embedder') tenant = EMBEDDER;
    if (tenant === null) continue;
    const within = evidence.windows.some(
      (step) => step.tenant === tenant && step.fromMs - SLACK_MS <= wall(entry) && wall(entry) <= step.toMs + SLACK_MS,
    );
    const step = evidence.windows.find(({ fromMs, toMs }) => fromMs <= wall(entry) && wall(entry) <= toMs);
    // Ollama evicts by itself where a stranger takes, between our look and its own, what was counted on.
    const isEvicted = entry.kind === 'unload-start' && entry.reason === 'evicted';
    if (isEvicted && step && othersTook(evidence, step.fromMs - SLACK_MS, wall(entry))) continue;
    const why = entry.kind === 'unload-start' ? ` (${entry.reason})` : '';
    if (!within) complaints.push(`law 3: ${entry.kind}${why} of ${tenant} at ${entry.at} belongs to no step`);
  }
  return complaints;
}

/** M7: when a load of the VLM by vramflow ends, CLIP holds nothing on a GPU. */
function clipLeavesFirst(evidence: Evidence): string[] {
  const complaints: string[] = [];
  const held = new Map<string, number>();
  for (const entry of evidence.record) {
    if (isOf('allocated', 'freed')(entry) && entry.holderKind === 'embedder') held.set(entry.holder, entry.holderMb);
    if (!isOf('load-end')(entry) || entry.seq <= evidence.trace.firstSeq) continue;
    if (entry.outcome !== 'loaded' || entry.model !== evidence.vlm || isDirect(evidence, wall(entry))) continue;
    const mb = [...held.values()].reduce((sum, one) => sum + one, 0);
    if (mb > 0) complaints.push(`M7: the VLM load ended at ${entry.at} while CLIP held ${mb} MB`);
  }
  return complaints;
}

interface Ended {
  goal: OperationGoal;
  outcome: OperationOutcome;
}

/** M9: when an operation says done, what it was asked for is true, by the record at that moment. */
function outcomesAreTrue(evidence: Evidence): string[] {
  const complaints: string[] = [];
  for (const entry of evidence.journal.filter(({ type }) => type === 'operation')) {
    const { goal, outcome } = entry.details as unknown as Ended;
    const at = Date.parse(entry.time);
    // Until then something else may have taken away or brought what the operation had seen.
    const observedMs = at - 2_000;
    if (outcome.status !== 'done' || evidence.trace.disturbedMs.some((ms) => ms > observedMs && ms < at + SLACK_MS))
      continue;
    const loaded = loadedAt(evidence, at);
    const name = `${entry.workflowId} (${outcome.summary})`;
    if (goal.kind === 'model' && (goal.verb === 'load') !== loaded.has(tenantName(goal.tenant))) {
      complaints.push(`M9: ${name} is done, loaded are: ${[...loaded].join(', ') || 'none'}`);
    }
    if (goal.kind === 'mode' && goal.mode === 'recording' && !loaded.has(evidence.vlm)) {
      complaints.push(`M1: ${name} is done without the VLM`);
    }
    if (goal.kind === 'mode' && goal.mode === 'autopilot' && loaded.has(evidence.vlm)) {
      complaints.push(`M1: ${name} is done with the VLM there`);
    }
  }
  // M9: an operation that found all true called neither load nor unload: it has no step.
  for (const { outcome } of evidence.trace.told) {
    if (outcome?.status !== 'done' || outcome.steps.length > 0) continue;
    // A step that failed may have been overtaken: somebody else made true what it was for.
    const acted = evidence.windows.filter(
      ({ workflowId, ended }) => workflowId === idOf(evidence, outcome) && ended === 'completed',
    );
    if (acted.length > 0) complaints.push(`M9: ${outcome.summary}: it was true already, but ${acted.length} steps ran`);
  }
  return complaints;
}

const idOf = ({ trace }: Evidence, outcome: OperationOutcome): string | null =>
  trace.told.find((told) => told.outcome === outcome)?.workflowId ?? null;

/** The models that Ollama had at a moment of the wall clock; one whose unload had begun is no more there. */
function loadedAt({ record }: Evidence, at: number): Set<string> {
  const loaded = new Set<string>();
  for (const entry of record) {
    if (wall(entry) > at) break;
    if (isOf('load-end')(entry) && entry.outcome === 'loaded') loaded.add(entry.model);
    if (isOf('unload-start', 'gone')(entry)) loaded.delete(entry.model);
    if (entry.kind === 'ollama-stopped') loaded.clear();
  }
  return loaded;
}

/** M15: each change that a step made has its event, with figures that prove it (M6); each event is true. */
function events(evidence: Evidence): string[] {
  const { journal, record } = evidence;
  const complaints: string[] = [];
  const changes = own(evidence);
  const ofType = (type: JournalEntry['type']): JournalEntry[] => journal.filter((entry) => entry.type === type);
  for (const entry of ofType('model_unloaded')) {
    const { beforeMb, afterMb, by } = entry.details as Record<'beforeMb' | 'afterMb', Record<string, number | null>> & {
      by?: string;
    };
    const complete = Object.keys(beforeMb ?? {}).length > 0 && Object.keys(afterMb ?? {}).length > 0 && by;
    if (!complete) complaints.push(`M15: model_unloaded without its proof: ${JSON.stringify(entry)}`);
    const model = tenantName(entry.subject ?? '');
    const holder = record.findLast(
      (one) => isOf('gone')(one) && one.model === model && wall(one) <= Date.parse(entry.time),
    );
    if (holder === undefined || !isOf('gone')(holder)) {
      complaints.push(`M6: ${entry.message}: the record has no end of it`);
      continue;
    }
    const left = heldBy(record, holder.holder, Date.parse(entry.time));
    if (left > 0) complaints.push(`M6: ${entry.message}, but its process still holds ${left} MB`);
  }
  for (const entry of ofType('model_loaded')) {
    const model = tenantName(entry.subject ?? '');
    const loaded = record.some(
      (one) =>
        isOf('load-end')(one) &&
        one.model === model &&
        one.outcome === 'loaded' &&
        wall(one) <= Date.parse(entry.time) + SLACK_MS,
    );
    if (!loaded) complaints.push(`M15: ${entry.message}, but the record has no such load`);
  }
  if (evidence.calm) {
    const during = (entry: RecordEntry, kind: StepWindow['kind'], tenant: string): StepWindow[] =>
      evidence.windows.filter(
        (step) =>
          step.kind === kind &&
          step.tenant === tenant &&
          wall(entry) >= step.fromMs - SLACK_MS &&
          wall(entry) <= step.toMs + SLACK_MS,
      );
    const gone = new Set(changes.filter(isOf('gone')).map(({ holder }) => holder));
    // What Ollama does after a load that was cancelled or failed is the rest of that load.
    const unloads = changes
      .filter(isOf('unload-start'))
      .filter((one) => !one.reason.startsWith('load ') && gone.has(one.holder))
      .filter((one) => during(one, 'unload', `model/${one.model}`).length > 0);
    const told = ofType('model_unloaded').length;
    if (told !== unloads.length) complaints.push(`M15: ${unloads.length} unloads, ${told} model_unloaded events`);
    // One that comes although its attempt was cut short is told of when somebody proves it.
    const starts = changes.filter(isOf('load-start'));
    const windows = starts.map((one) => during(one, 'load', `model/${one.model}`));
    const certain = windows.filter((steps) => steps.some(({ ended }) => ended === 'completed')).length;
    const possible = windows.filter((steps) => steps.length > 0).length;
    const loaded = ofType('model_loaded').length;
    if (loaded < certain || loaded > possible) {
      complaints.push(`M15: ${certain} loads, ${possible} with those cut short, ${loaded} model_loaded events`);
    }
  }
  for (const entry of ofType('mode_changed')) {
    if (entry.details['from'] === entry.details['to'])
      complaints.push(`M15: a mode change to itself: ${entry.message}`);
  }
  for (const entry of ofType('device_changed')) {
    const proven = String(entry.details['by']).includes('embeddings are valid');
    if (!proven) complaints.push(`M8: CLIP moved without a probe: ${JSON.stringify(entry.details)}`);
  }
  return complaints;
}

function heldBy(record: readonly RecordEntry[], holder: string, at: number): number {
  const byGpu = new Map<string, number>();
  for (const entry of record) {
    if (wall(entry) > at) break;
    if (isOf('allocated', 'freed')(entry) && entry.holder === holder) byGpu.set(entry.gpu, entry.holderMb);
  }
  return [...byGpu.values()].reduce((sum, mb) => sum + mb, 0);
}

/** M12: idle unload begins only after the whole idle time without a request for the model, by whomever. */
function idleUnloads(evidence: Evidence): string[] {
  const requests = own(evidence).filter(isOf('request-start', 'request-end'));
  return evidence.journal
    .filter(({ type }) => type === 'idle_unload')
    .flatMap((entry) => {
      const model = tenantName(entry.subject ?? '');
      const ended = Date.parse(entry.time);
      // The first attempt of the last unload of this timer: later ones only finish what was decided then.
      const steps = evidence.windows.filter(
        ({ workflowId, kind, fromMs }) => workflowId === entry.workflowId && kind === 'unload' && fromMs <= ended,
      );
      const first = steps.find(({ runId }) => runId === steps.at(-1)?.runId);
      const used = requests.filter(
        (one) => first && one.model === model && /generate|chat/.test(one.path) && wall(one) < first.fromMs - SLACK_MS,
      );
      const last = used.at(-1);
      if (first === undefined || last === undefined) return [];
      const idleMs = first.fromMs - wall(last);
      return idleMs >= evidence.idleTimeoutSeconds * 1000 - SLACK_MS
        ? []
        : [`M12: ${model} was unloaded ${idleMs} ms after its last request (${JSON.stringify(last)})`];
    });
}

/** Strangers end only by themselves: those that end are ended by the test, after its last action or by `go`. */
function strangers(evidence: Evidence): string[] {
  return own(evidence)
    .filter(isOf('process-end'))
    .filter(({ holderKind }) => holderKind === 'graphics')
    .map(({ name, pid }) => `law 5: ${name} (${pid}) of the desktop has ended`);
}
