import { distance } from 'fastest-levenshtein';

/** `idleTimeout-Seconds` and `idle_timeout_seconds` are the same word to a person. */
const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The known name that was most likely meant, or null when none is close. */
export function nearest(name: string, known: Iterable<string>): string | null {
  const wanted = plain(name);
  // Two letters swapped cost two.
  const allowed = wanted.length < 4 ? 1 : Math.max(2, Math.floor(wanted.length / 3));
  let best: { name: string; cost: number } | null = null;
  for (const candidate of known) {
    const other = plain(candidate);
    // A word left off (`idle_timeout`) is many letters away, yet clear.
    const cost = wanted.length >= 3 && other.startsWith(wanted) ? 1 : distance(wanted, other);
    if (cost <= allowed && (!best || cost < best.cost)) best = { name: candidate, cost };
  }
  return best?.name ?? null;
}
