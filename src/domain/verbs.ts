import { isReservation, isService } from '../contracts/names.js';

/** What a step does, in the word that people have for it. */
export function verbOf({ kind, tenant }: { kind: 'unload' | 'load' | 'move'; tenant: string }): string {
  if (isReservation(tenant)) return kind === 'unload' ? 'end' : 'reserve for';
  if (!isService(tenant)) return kind;
  return kind === 'unload' ? 'stop' : 'start';
}
