/** The points of a phase preparation at which something is killed: 3 → 4 and back. */
import type { RecordEntry } from '../../src/simulator/record.js';
import {
  byLook,
  byRecord,
  concluded,
  granted,
  journalOnDisk,
  observed,
  type Point,
  planned,
  released,
} from './points.js';

const ofService = (entry: RecordEntry): boolean => 'holderKind' in entry && entry.holderKind === 'service';

const stopBegun = byLook('the stop has begun', async (system) => {
  const { tenants } = await system.status();
  return tenants.some(({ kind, state }) => kind === 'service' && state === 'unloading');
});
/** The service is gone, and its memory is not back. */
const stopped = byRecord(
  'between the stop and the proof of its memory',
  (entry) => entry.kind === 'process-end' && ofService(entry),
);
const memoryBack = byRecord('the memory is back', (entry) => entry.kind === 'reclaimed');
const started = byRecord('the next service has started', (entry) => entry.kind === 'process-start' && ofService(entry));
const halfStarted = byRecord(
  'the start is half done',
  (entry) => entry.kind === 'allocated' && ofService(entry) && entry.holderMb > 2_000,
);
const ready = byLook('between ready and the conclusion', (system, since) =>
  Promise.resolve(
    journalOnDisk(system).some(({ sequence, type }) => sequence > since.journal && type === 'service_started'),
  ),
);

const ORDER: Point[] = [
  granted,
  observed,
  planned,
  stopBegun,
  stopped,
  memoryBack,
  started,
  halfStarted,
  ready,
  concluded,
  released,
];

export type Phase = '3' | '4';

/** Both directions in turn, so that each case begins where the one before has ended. */
export const PHASE_POINTS: { phase: Phase; point: Point }[] = ORDER.flatMap((point) => [
  { phase: '4' as const, point },
  { phase: '3' as const, point },
]);

/** A kill falls into the time in which the memory comes back: it has to come slower than an agent takes to come up. */
export const isBetweenStopAndProof = (point: Point): boolean => point === stopped;
