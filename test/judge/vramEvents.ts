/** M15: `vram_changed` tells what the cards used, and tells it of each change that lasts. */
import type { RecordEntry } from '../../src/simulator/record.js';
import { type Evidence, isOf, timeOf, wall } from './evidence.js';

/** M15: a change of so much is told. */
const THRESHOLD_MB = 100;
/** From a reading until it is written down, and until a change is read, on a busy machine. */
const LATE_MS = 3_000;

interface Level {
  gpu: string;
  usedMb: number;
  fromMs: number;
  toMs: number;
}

export function vramChangesAreTold(evidence: Pick<Evidence, 'record' | 'journal' | 'trace' | 'settings'>): string[] {
  const complaints: string[] = [];
  const levels = levelsOf(evidence);
  const told = new Map<string, number>(Object.entries(evidence.trace.reportedMb));
  const untold = [...levels].sort((a, b) => a.toMs - b.toMs).filter((one) => one.toMs - one.fromMs >= LATE_MS);
  const missed = (untilMs: number): void => {
    for (let level = untold[0]; level !== undefined && level.toMs <= untilMs; level = untold[0]) {
      untold.shift();
      const last = told.get(level.gpu);
      if (last === undefined || level.toMs < evidence.trace.startedMs || isUnread(evidence.record, level)) continue;
      if (Math.abs(last - level.usedMb) > THRESHOLD_MB) {
        const at = new Date(level.fromMs).toISOString();
        complaints.push(`M15: ${level.gpu} used ${level.usedMb} MB from ${at} on, vram_changed told ${last} MB last`);
      }
    }
  };
  for (const entry of evidence.journal) {
    if (entry.type === 'agent_started') {
      // It tells changes against what it saw first.
      told.clear();
      continue;
    }
    if (entry.type !== 'vram_changed') continue;
    missed(timeOf(entry));
    const { fromMb, toMb } = entry.details as { fromMb: number; toMb: number };
    const gpu = entry.subject ?? '';
    const what = `vram_changed ${fromMb} → ${toMb} MB of ${gpu} (${entry.time})`;
    if (Math.abs(toMb - fromMb) < THRESHOLD_MB) complaints.push(`M15: ${what} is no change`);
    if (fromMb !== (told.get(gpu) ?? fromMb)) complaints.push(`M15: ${what} follows on ${told.get(gpu)} MB`);
    told.set(gpu, toMb);
    const seen = levels.filter(
      (one) => one.gpu === gpu && one.fromMs <= timeOf(entry) && one.toMs >= timeOf(entry) - LATE_MS,
    );
    if (!seen.some((one) => Math.abs(one.usedMb - toMb) <= 1)) complaints.push(`M15: ${what}: it never used that`);
  }
  missed(Number.POSITIVE_INFINITY);
  return complaints;
}

/** How long each card used how much; the last level is that of now. */
function levelsOf(evidence: Pick<Evidence, 'record' | 'trace' | 'settings'>): Level[] {
  const levels: Level[] = [];
  const latest = new Map<string, Level>();
  for (const entry of evidence.record.filter(isOf('allocated', 'freed'))) {
    const { gpu } = entry;
    const usedMb = entry.usedMb + (evidence.settings.reservedMb[gpu] ?? 0);
    const former = latest.get(gpu);
    if (former !== undefined) former.toMs = wall(entry);
    const level = { gpu, usedMb, fromMs: wall(entry), toMs: evidence.trace.endedMs };
    latest.set(gpu, level);
    levels.push(level);
  }
  return levels;
}

/** The reader did not work for a part of it: until it does again nothing can be told. */
function isUnread(record: readonly RecordEntry[], { fromMs, toMs }: Level): boolean {
  let since: number | null = null;
  for (const entry of record.filter(isOf('fault-set', 'fault-cleared'))) {
    if (!entry.fault.startsWith('smi-')) continue;
    if (entry.kind === 'fault-set') since ??= wall(entry);
    else {
      if (since !== null && since <= toMs && wall(entry) + LATE_MS >= fromMs) return true;
      since = null;
    }
  }
  return since !== null && since <= toMs;
}
