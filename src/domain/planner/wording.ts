/** How figures read in the planner's sentences. */

/** `10,752 MB`. Not by locale: a workflow must say the same everywhere. */
export const mb = (value: number): string => `${grouped(Math.round(value))} MB`;

/** `1.5 s`. */
export const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`;

/** `a, b and c`. */
export const listed = (words: string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words[words.length - 1]}`;

/** `1 request`, `2 requests`. */
export const counted = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;

const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, ',');

/** What is said of several, said once: each reason with all that it is said of, in the order of the first of each. */
export function saidOnce(said: { of: string; why: string }[]): { of: string[]; why: string }[] {
  const byReason = new Map<string, string[]>();
  for (const { of, why } of said) byReason.set(why, [...(byReason.get(why) ?? []), of]);
  return [...byReason].map(([why, of]) => ({ of, why }));
}
