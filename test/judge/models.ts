/** M3, M7, M12: how models come and go, by the record. */
import { tenantName } from '../../src/contracts/names.js';
import { type Evidence, isDirect, isOf, own, SLACK_MS, timeOf, wall } from './evidence.js';

/** M3: each runner is loaded once, then unloads, then is gone; and a model has one runner at a time. */
export function lifeOfModels(evidence: Evidence): string[] {
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

/** M7: when a load of the VLM by vramflow ends, CLIP holds nothing on a GPU. */
export function clipLeavesFirst(evidence: Evidence): string[] {
  const complaints: string[] = [];
  const held = new Map<string, number>();
  for (const entry of evidence.record) {
    if (isOf('allocated', 'freed')(entry) && entry.holderKind === 'embedder') held.set(entry.holder, entry.holderMb);
    if (!isOf('load-end')(entry) || entry.seq <= evidence.trace.firstSeq) continue;
    if (entry.outcome !== 'loaded' || entry.model !== evidence.settings.vlm || isDirect(evidence, wall(entry)))
      continue;
    const mb = [...held.values()].reduce((sum, one) => sum + one, 0);
    if (mb > 0) complaints.push(`M7: the VLM load ended at ${entry.at} while CLIP held ${mb} MB`);
  }
  return complaints;
}

/** M12: idle unload begins only after the whole idle time without a request for the model, by whomever. */
export function idleUnloads(evidence: Evidence): string[] {
  const requests = own(evidence).filter(isOf('request-start', 'request-end'));
  return evidence.journal
    .filter(({ type }) => type === 'idle_unload')
    .flatMap((entry) => {
      const model = tenantName(entry.subject ?? '');
      const ended = timeOf(entry);
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
      return idleMs >= evidence.settings.idleTimeoutMs - SLACK_MS
        ? []
        : [`M12: ${model} was unloaded ${idleMs} ms after its last request (${JSON.stringify(last)})`];
    });
}
