/** What can hold memory of a simulated card. */
export type HolderKind = 'runner' | 'embedder' | 'service' | 'container' | 'compute' | 'graphics' | 'driver';

/** What happened, by kind. All sizes in MB; `gpu` is the card's UUID. */
export type RecordEvent =
  | { kind: 'start'; preset: string; seed: number; speed: number; cards: { gpu: string; totalMb: number }[] }
  | { kind: 'process-start' | 'process-end'; holder: string; holderKind: HolderKind; name: string; pid: number }
  | {
      kind: 'allocated' | 'freed';
      holder: string;
      holderKind: HolderKind;
      name: string;
      gpu: string;
      /** How much came or went; always positive. */
      mb: number;
      /** What the holder has on this card afterwards. */
      holderMb: number;
      /** What the card says it uses afterwards. */
      usedMb: number;
    }
  | { kind: 'oom'; holder: string; holderKind: HolderKind; name: string; gpu: string; askedMb: number; freeMb: number }
  | {
      kind: 'load-start';
      model: string;
      holder: string;
      sizeMb: number;
      vramMb: Record<string, number>;
      numCtx: number;
    }
  | { kind: 'load-end'; model: string; holder: string; outcome: 'loaded' | 'failed' | 'aborted'; error: string | null }
  | { kind: 'unload-start'; model: string; holder: string; reason: string }
  | { kind: 'gone'; model: string; holder: string }
  | { kind: 'reclaimed'; holder: string; name: string; gpu: string; mb: number }
  | { kind: 'request-start'; request: number; path: string; model: string | null }
  | { kind: 'request-end'; request: number; path: string; model: string | null; status: number; aborted: boolean }
  | { kind: 'fault-set' | 'fault-cleared'; fault: string; params: Record<string, string | number | boolean> }
  | { kind: 'embed'; pid: number; device: string; input: 'text' | 'image'; count: number }
  | { kind: 'ollama-started' | 'ollama-stopped' }
  | { kind: 'runner-crashed'; model: string; holder: string }
  | { kind: 'speed'; speed: number };

/** One line of the record. `seq` grows by one; `atMs` is simulated time, `at` the wall clock. */
export type RecordEntry = { readonly seq: number; readonly atMs: number; readonly at: string } & RecordEvent;

/** A card's use from `atMs` on, until the next point. */
export interface UsedPoint {
  readonly atMs: number;
  readonly usedMb: number;
}

/** What one holder has on one card. */
export interface Holding {
  readonly holder: string;
  readonly holderKind: HolderKind;
  readonly name: string;
  readonly gpu: string;
  readonly mb: number;
}

export interface Violation {
  readonly seq: number;
  readonly atMs: number;
  readonly kind: 'over-total' | 'out-of-memory' | 'books-do-not-balance';
  /** Whose step it was: an out-of-memory of a foreign process is its own doing. */
  readonly holderKind: HolderKind;
  readonly message: string;
}

/** Per card, how its use went. Summed from the single allocations, not taken from what the card said. */
export function usedOver(record: readonly RecordEntry[]): Map<string, UsedPoint[]> {
  const series = new Map<string, UsedPoint[]>();
  for (const entry of record) {
    if (entry.kind === 'start') for (const { gpu } of entry.cards) series.set(gpu, [{ atMs: entry.atMs, usedMb: 0 }]);
    if (entry.kind !== 'allocated' && entry.kind !== 'freed') continue;
    const points = series.get(entry.gpu) ?? [];
    const before = points.at(-1)?.usedMb ?? 0;
    points.push({ atMs: entry.atMs, usedMb: before + signedMb(entry) });
    series.set(entry.gpu, points);
  }
  return series;
}

/** Who held what at a moment (simulated ms; what happened at that very moment counts). */
export function holdersAt(record: readonly RecordEntry[], atMs: number): Holding[] {
  const holdings = new Map<string, Holding>();
  for (const entry of record) {
    if (entry.atMs > atMs) break;
    if (entry.kind !== 'allocated' && entry.kind !== 'freed') continue;
    const key = `${entry.holder} ${entry.gpu}`;
    const mb = (holdings.get(key)?.mb ?? 0) + signedMb(entry);
    const { holder, holderKind, name, gpu } = entry;
    if (mb === 0) holdings.delete(key);
    else holdings.set(key, { holder, holderKind, name, gpu, mb });
  }
  return [...holdings.values()];
}

/** The most that each card used at any moment. */
export function peakUsed(record: readonly RecordEntry[]): Map<string, number> {
  return new Map([...usedOver(record)].map(([gpu, points]) => [gpu, Math.max(...points.map((p) => p.usedMb))]));
}

/**
 * What may never happen: a card over its total, an out-of-memory, or books that do not balance
 * (a freed MB that nobody held, or a card that says other than the sum of its holders).
 */
export function violations(record: readonly RecordEntry[]): Violation[] {
  const found: Violation[] = [];
  const totals = new Map<string, number>();
  const used = new Map<string, number>();
  const held = new Map<string, number>();
  for (const entry of record) {
    if (entry.kind === 'start') for (const { gpu, totalMb } of entry.cards) totals.set(gpu, totalMb);
    if (entry.kind !== 'oom' && entry.kind !== 'allocated' && entry.kind !== 'freed') continue;
    const report = (kind: Violation['kind'], message: string): void => {
      found.push({ seq: entry.seq, atMs: entry.atMs, kind, holderKind: entry.holderKind, message });
    };
    if (entry.kind === 'oom') {
      report('out-of-memory', `${entry.name} asked ${entry.askedMb} MB of ${entry.gpu}, ${entry.freeMb} MB were free`);
      continue;
    }
    const usedMb = (used.get(entry.gpu) ?? 0) + signedMb(entry);
    used.set(entry.gpu, usedMb);
    const key = `${entry.holder} ${entry.gpu}`;
    const heldMb = (held.get(key) ?? 0) + signedMb(entry);
    held.set(key, heldMb);
    const totalMb = totals.get(entry.gpu);
    if (totalMb === undefined || usedMb > totalMb) {
      report('over-total', `${entry.gpu} uses ${usedMb} of ${totalMb ?? 'unknown'} MB`);
    }
    if (usedMb !== entry.usedMb || heldMb !== entry.holderMb || heldMb < 0) {
      report(
        'books-do-not-balance',
        `${entry.gpu}: summed ${usedMb} MB, said ${entry.usedMb}; ${entry.name}: ${heldMb} MB, said ${entry.holderMb}`,
      );
    }
  }
  return found;
}

function signedMb(entry: { kind: 'allocated' | 'freed'; mb: number }): number {
  return entry.kind === 'allocated' ? entry.mb : -entry.mb;
}
