/** M9, M13: what callers were told is true. */
import { tenantName } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import { type Evidence, isOf, isWithin, othersTook, SLACK_MS, timeOf, wall } from './evidence.js';
import type { Generated } from './trace.js';

interface Ended {
  goal: OperationGoal;
  outcome: OperationOutcome;
}

/** M9: when an operation says done, what it was asked for is true, by the record at that moment. */
export function outcomesAreTrue(evidence: Evidence): string[] {
  const complaints: string[] = [];
  for (const entry of evidence.journal.filter(({ type }) => type === 'operation')) {
    const { goal, outcome } = entry.details as unknown as Ended;
    const at = timeOf(entry);
    // Until then something else may have taken away or brought what the operation had seen.
    const observedMs = at - 2_000;
    if (outcome.status !== 'done' || evidence.trace.disturbedMs.some((ms) => ms > observedMs && ms < at + SLACK_MS))
      continue;
    const loaded = loadedAt(evidence, at);
    const name = `${entry.workflowId} (${outcome.summary})`;
    if (goal.kind === 'model' && (goal.verb === 'load') !== loaded.has(tenantName(goal.tenant))) {
      complaints.push(`M9: ${name} is done, loaded are: ${[...loaded].join(', ') || 'none'}`);
    }
    if (goal.kind === 'mode' && goal.mode === 'recording' && !loaded.has(evidence.settings.vlm)) {
      complaints.push(`M1: ${name} is done without the VLM`);
    }
    if (goal.kind === 'mode' && goal.mode === 'autopilot' && loaded.has(evidence.settings.vlm)) {
      complaints.push(`M1: ${name} is done with the VLM there`);
    }
  }
  // M9: an operation that found all true called neither load nor unload: it has no step.
  for (const { workflowId: id, outcome } of evidence.trace.told) {
    if (outcome?.status !== 'done' || outcome.steps.length > 0) continue;
    // A step that failed may have been overtaken: somebody else made true what it was for.
    const acted = evidence.windows.filter(({ workflowId, ended }) => workflowId === id && ended === 'completed');
    if (acted.length > 0) complaints.push(`M9: ${outcome.summary}: it was true already, but ${acted.length} steps ran`);
  }
  return complaints;
}

/** The models that Ollama had at a moment of the wall clock; one whose unload had begun or whose runner had crashed is no more there. */
function loadedAt({ record }: Evidence, at: number): Set<string> {
  const loaded = new Set<string>();
  for (const entry of record) {
    if (wall(entry) > at) break;
    if (isOf('load-end')(entry) && entry.outcome === 'loaded') loaded.add(entry.model);
    if (isOf('unload-start', 'gone', 'runner-crashed')(entry)) loaded.delete(entry.model);
    if (entry.kind === 'ollama-stopped') loaded.clear();
  }
  return loaded;
}

/** M13: a request for a text was answered by the model; on a calm host it fails only for a reason that is true. */
export function textsCame(evidence: Evidence): string[] {
  return evidence.trace.generated.flatMap((asked) => {
    if (asked.left) return [];
    const { error, model } = asked;
    if (error === null) {
      return asked.hasText && wasAnswered(evidence, asked)
        ? []
        : [`M13: ${model} is said to have answered, and has not`];
    }
    if (!evidence.calm || isTrue(evidence, asked, error)) return [];
    return [`M13: a request for ${model} failed: ${error.code}: ${error.message}`];
  });
}

const wasAnswered = ({ record }: Evidence, { model, ...asked }: Generated): boolean =>
  record
    .filter(isOf('request-end'))
    .some((end) => end.model === model && end.status === 200 && !end.aborted && isWithin(wall(end), asked));

/** The reasons that a calm host may have: no room, or others who unload the model meanwhile. */
function isTrue(evidence: Evidence, asked: Generated, { code, message }: { code: string; message: string }): boolean {
  const unloads = evidence.record
    .filter(isOf('unload-start'))
    .filter((one) => one.model === asked.model && isWithin(wall(one), asked));
  if (/the grace for requests in flight has passed/.test(message)) return unloads.length > 0;
  if (/was unloaded again (\d) times/.test(message)) return unloads.length > 0;
  if (code === 'Refused') return leastRoomMb(evidence, asked) < (evidence.settings.modelMb[asked.model] ?? 0) * LEARNED;
  return othersTook(evidence, asked.fromMs, asked.toMs);
}

/** What a model is seen to take may be more than was declared. */
const LEARNED = 1.15;

/** The least that the card with the most room had during a request, without what vramflow may push out: MB. */
export function leastRoomMb({ record, settings }: Pick<Evidence, 'record' | 'settings'>, asked: Generated): number {
  const totalMb = new Map<string, number>();
  const heldMb = new Map<string, { gpu: string; mb: number; model: string | null }>();
  const models = new Map<string, string>();
  const requests = new Map<string, number>();
  let least = Number.POSITIVE_INFINITY;
  const room = (): number => {
    const kept = [...heldMb.values()].filter(({ model }) => model === null || (requests.get(model) ?? 0) > 0);
    const rooms = [...totalMb].map(
      ([gpu, mb]) => mb - kept.filter((one) => one.gpu === gpu).reduce((sum, one) => sum + one.mb, 0),
    );
    return Math.max(...rooms);
  };
  for (const entry of record) {
    if (wall(entry) > asked.toMs) break;
    if (wall(entry) >= asked.fromMs - SLACK_MS) least = Math.min(least, room());
    if (entry.kind === 'start') {
      for (const card of entry.cards) totalMb.set(card.gpu, card.totalMb - (settings.reservedMb[card.gpu] ?? 0));
    }
    if (entry.kind === 'load-start') models.set(entry.holder, entry.model);
    if (isOf('request-start', 'request-end')(entry) && entry.model !== null && entry.model !== asked.model) {
      requests.set(entry.model, (requests.get(entry.model) ?? 0) + (entry.kind === 'request-start' ? 1 : -1));
    }
    if (isOf('allocated', 'freed')(entry) && entry.holderKind !== 'embedder') {
      const model = models.get(entry.holder) ?? null;
      if (model === asked.model) continue;
      heldMb.set(`${entry.holder} ${entry.gpu}`, { gpu: entry.gpu, mb: entry.holderMb, model });
    }
  }
  return Math.min(least, room());
}
