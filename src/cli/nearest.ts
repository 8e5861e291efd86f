import { nearest } from '../config/nearest.js';

/** The remedy for an unknown name: `Did you mean recording? Known: autopilot, idle, recording.` */
export function suggest(name: string, known: Iterable<string>): string {
  const names = [...known].sort();
  if (names.length === 0) return 'None are known.';
  // Another number is not what was meant.
  const near = /^\d+$/.test(name) ? null : nearest(name, names);
  const list = `Known: ${names.join(', ')}.`;
  return near ? `Did you mean ${near}? ${list}` : list;
}
