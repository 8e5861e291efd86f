/** Versions as the programs print them. Pure. */

export type Version = readonly [number, number, number];

/** The first `major.minor[.patch]` after `prefix`, or null. */
export function parseVersion(text: string, prefix: string): Version | null {
  const start = text.indexOf(prefix);
  if (start < 0) return null;
  const match = /^(\d+)\.(\d+)(?:\.(\d+))?/.exec(text.slice(start + prefix.length));
  return match === null ? null : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

/** Negative when `a` is older. */
export function compareVersions(a: Version, b: Version): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}

export const formatVersion = (version: Version): string => version.join('.');
