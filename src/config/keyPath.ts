/** Key paths as people write them: `gpu.reader`, `models."qwen2.5:14b".vram_mb`. */

export type KeyPath = readonly string[];

const PLAIN = /^[\w:/-]+$/;

export const formatPath = (path: KeyPath): string =>
  path.map((segment) => (PLAIN.test(segment) ? segment : JSON.stringify(segment))).join('.');

/** Reads what `formatPath` writes; null when it is no key path. */
export function parsePath(written: string): KeyPath | null {
  if (!/^(?:"(?:[^"\\]|\\.)+"|[^."]+)(?:\.(?:"(?:[^"\\]|\\.)+"|[^."]+))*$/.test(written)) return null;
  const segments = written.match(/"(?:[^"\\]|\\.)+"|[^."]+/g) ?? [];
  return segments.map((segment) => (segment.startsWith('"') ? String(JSON.parse(segment)) : segment));
}
