/** What is said of several, said once: each reason with all that it is said of, in the order of the first of each. */
export function saidOnce(said: { of: string; why: string }[]): { of: string[]; why: string }[] {
  const byReason = new Map<string, string[]>();
  for (const { of, why } of said) byReason.set(why, [...(byReason.get(why) ?? []), of]);
  return [...byReason].map(([why, of]) => ({ of, why }));
}
