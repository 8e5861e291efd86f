/** What may never happen to memory and to strangers, by the record alone. */
import { violations } from '../../src/simulator/record.js';
import { type Evidence, isOf, isWithin, othersTook, own, SLACK_MS, wall } from './evidence.js';

/** No card over its total, no out-of-memory, books that balance. What others took in the middle of a step excuses it. */
export function memory(evidence: Pick<Evidence, 'record' | 'trace' | 'windows'>): string[] {
  const { record, trace, windows } = evidence;
  return violations(record)
    .filter(({ seq }) => seq > trace.firstSeq)
    .filter((violation) => {
      if (violation.kind !== 'out-of-memory') return true;
      if (violation.holderKind === 'compute') return false;
      const at = wall(record.find(({ seq }) => seq === violation.seq) ?? { at: '' });
      const step = windows.find((window) => isWithin(at, window));
      const from = step?.fromMs ?? at;
      return !othersTook(evidence, from - SLACK_MS, at);
    })
    .map(({ kind, message }) => `${kind}: ${message}`);
}

/** Strangers end only by themselves: those that end are ended by the test, after its last action or by `go`. */
export function strangers(evidence: Pick<Evidence, 'record' | 'trace'>): string[] {
  return own(evidence)
    .filter(isOf('process-end'))
    .filter(({ holderKind }) => holderKind === 'graphics')
    .map(({ name, pid }) => `law 5: ${name} (${pid}) of the desktop has ended`);
}
