import type { DriverObservation } from '../contracts/residency.js';

/** M16: why Ollama, which should answer, does not; null: it does, or its service is stopped. */
export function ollamaTrouble(drivers: readonly DriverObservation[]): string | null {
  const ollama = drivers.find(({ id }) => id === 'ollama');
  if (ollama === undefined || ollama.available || ollama.resting) return null;
  return ollama.reason ?? 'no answer';
}
