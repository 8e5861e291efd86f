import type { GpuSample } from '../adapters/gpu/reader.js';
import { CPU } from '../contracts/names.js';
import type { Holding } from '../contracts/residency.js';
import {
  isStable,
  type OtherReclaim,
  proveReclaimed,
  type ReclaimCase,
  type ReclaimSample,
  remainingMb,
} from '../domain/reclaimProof.js';

interface Pending {
  cases: ReclaimCase[];
  measured: boolean;
  /** Samples since the tenant left its API's list, by GPU. */
  samples: Map<string, ReclaimSample[]>;
  proven: Map<string, string>;
  goneAt: number | null;
  /** Null: whoever waits for the proof says when it has failed. */
  dueAt: number | null;
  failed: boolean;
}

/** A case as it lies on disk. */
export type StoredReclaim = Omit<ReclaimCase, 'processesBefore' | 'others' | 'pidsOfOthers'> & {
  processesBefore: [number, number | null][] | null;
  /** An agent of an older version stored none. */
  others?: ReclaimCase['others'];
  pidsOfOthers?: number[];
};

/** What was there before an unload. */
export interface Before {
  holdings: (Holding & Pick<ReclaimCase, 'atMost'>)[];
  /** The tenant's processes, and those of other tenants, as far as they are known. */
  ownPids: number[];
  pidsOfOthers: number[];
  sample: GpuSample;
  /** False where there is no reading of used memory (P9): nothing can be proven then, and the proof says so. */
  measured: boolean;
}

/** Samples kept per GPU while a proof is awaited. */
const KEPT = 50;
/** For a proof that nobody waits for: what has not come back by then quarantines the GPU (law 8). */
export const UNATTENDED_PROOF_MS = 10_000;
/** Memory that is not back so long after its tenant's end counts as foreign, once the use of the card is stable. */
const SETTLED_MS = 30_000;

/**
 * Memory that a tenant no longer claims but that no sample has proven free (law 2). Until then the tenant still holds it,
 * whatever its API says; a proof that fails quarantines the GPU until the memory is back (law 8).
 */
export class Reclaims {
  private readonly pending = new Map<string, Pending>();
  private readonly proofs = new Map<string, string>();
  /** Of all that is or was to come back, as long as they are listed. */
  private readonly ownPids = new Set<number>();

  constructor(private readonly now: () => number) {}

  /** Remembers what was there before an unload. A repeated begin keeps the first picture. */
  begin(tenant: string, { holdings, ownPids, pidsOfOthers, sample: listed, measured }: Before): void {
    if (this.pending.has(tenant)) return;
    this.proofs.delete(tenant);
    for (const pid of ownPids) this.ownPids.add(pid);
    const sample = this.withoutEnded(listed);
    const cases = holdings
      .filter((holding) => holding.device !== CPU)
      .map((holding) => ({
        gpu: holding.device,
        beforeMb: sampleOf(sample, holding.device).usedMb,
        heldMb: holding.mb,
        ...(holding.atMost === true ? { atMost: true } : {}),
        processesBefore: sampleOf(sample, holding.device).processes,
        ownPids,
        pidsOfOthers,
        others: this.othersOn(holding.device, sample),
      }));
    if (cases.length === 0) this.proofs.set(tenant, 'it held nothing on a GPU');
    else {
      for (const reclaim of cases) this.tellOthers(tenant, reclaim);
      this.pending.set(tenant, {
        cases,
        measured,
        samples: new Map(),
        proven: new Map(),
        goneAt: null,
        dueAt: null,
        failed: false,
      });
    }
  }

  /** Begins with a new picture. What was stuck before is so still: the quarantine has no gap. */
  beginAnew(tenant: string, before: Before): void {
    const wasStuck = this.isStuck(tenant);
    this.cancel(tenant);
    this.begin(tenant, before);
    if (wasStuck) this.fail(tenant);
  }

  /** What the other reclaims under way still hold there: that may come back beside this one's. */
  private othersOn(gpu: string, before: GpuSample): OtherReclaim[] {
    const sample = sampleOf(before, gpu);
    return [...this.pending].flatMap(([tenant, { cases, proven }]) =>
      cases
        .filter((reclaim) => reclaim.gpu === gpu && !proven.has(gpu))
        .map((reclaim) => ({ tenant, pids: reclaim.ownPids, mb: remainingMb(reclaim, sample) })),
    );
  }

  private tellOthers(tenant: string, { gpu, ownPids, heldMb }: ReclaimCase): void {
    this.forget(tenant);
    for (const { cases } of this.pending.values()) {
      for (const other of cases) if (other.gpu === gpu) other.others.push({ tenant, pids: ownPids, mb: heldMb });
    }
  }

  /** It gives nothing back: what drops now is not its memory. */
  private forget(tenant: string): void {
    for (const { cases } of this.pending.values()) {
      for (const reclaim of cases) reclaim.others = reclaim.others.filter((other) => other.tenant !== tenant);
    }
  }

  /** What a successor of this agent needs to go on with the proof. */
  stored(tenant: string): StoredReclaim[] {
    const { cases, measured } = this.pending.get(tenant) ?? { cases: [], measured: false };
    if (!measured) return [];
    return cases.map((one) => ({ ...one, processesBefore: one.processesBefore && [...one.processesBefore] }));
  }

  /** Goes on with a proof that a former agent had begun; its tenant has left its API's list since. */
  resume(tenant: string, stored: StoredReclaim[]): void {
    const cases = stored.map((one) => ({
      ...one,
      processesBefore: one.processesBefore && new Map(one.processesBefore),
      others: one.others ?? [],
      pidsOfOthers: one.pidsOfOthers ?? [],
    }));
    for (const { ownPids } of cases) for (const pid of ownPids) this.ownPids.add(pid);
    if (cases.length === 0) this.proofs.set(tenant, 'nothing that can be measured was to come back');
    else {
      const rest = {
        measured: true,
        samples: new Map(),
        proven: new Map(),
        goneAt: this.now(),
        dueAt: null,
        failed: false,
      };
      this.pending.set(tenant, { cases, ...rest });
    }
  }

  /**
   * The API says that the tenant is gone: from now on samples count as proof.
   * @param boundMs where nobody waits for it: the proof has failed then (law 8); null: whoever waits now says so
   */
  gone(tenant: string, boundMs: number | null = null): void {
    const pending = this.pending.get(tenant);
    if (!pending) return;
    pending.goneAt ??= this.now();
    pending.dueAt = boundMs === null ? null : (pending.dueAt ?? this.now() + boundMs);
    if (!pending.measured) this.done(tenant, 'not measured: there is no reading of used memory');
  }

  private done(tenant: string, proof: string): void {
    this.proofs.set(tenant, proof);
    this.pending.delete(tenant);
  }

  /** The tenant is there again (a new load, or the unload was not carried out): nothing is awaited. */
  cancel(tenant: string): void {
    if (this.pending.delete(tenant)) this.forget(tenant);
  }

  /** Its memory did not come back, or the tenant itself does not go. */
  fail(tenant: string): void {
    const pending = this.pending.get(tenant);
    if (pending) pending.failed = true;
  }

  /** It was to go, and is there still. Nothing of it is proven, and nothing settles, while it lives. */
  isStuck(tenant: string): boolean {
    const pending = this.pending.get(tenant);
    return pending !== undefined && pending.failed && pending.goneAt === null;
  }

  has(tenant: string): boolean {
    return this.pending.has(tenant);
  }

  /** Feeds one sample; tenants whose memory is back on every GPU are done. */
  take(listed: GpuSample): void {
    const sample = this.withoutEnded(listed);
    const pids = listed.processes?.map(({ pid }) => pid);
    for (const pid of this.ownPids) if (pids?.includes(pid) === false) this.ownPids.delete(pid);
    for (const [tenant, pending] of this.pending) {
      if (pending.goneAt === null || sample.takenAt <= pending.goneAt) continue;
      for (const reclaim of pending.cases) {
        const samples = [...(pending.samples.get(reclaim.gpu) ?? []), sampleOf(sample, reclaim.gpu)].slice(-KEPT);
        pending.samples.set(reclaim.gpu, samples);
        const proof = proveReclaimed(reclaim, samples);
        if (proof !== null) pending.proven.set(reclaim.gpu, proof);
      }
      if (pending.dueAt !== null && this.now() > pending.dueAt) pending.failed = true;
      if (pending.cases.every((reclaim) => pending.proven.has(reclaim.gpu))) {
        this.done(tenant, [...new Set(pending.proven.values())].join('; '));
      } else if (pending.failed && this.now() - pending.goneAt > SETTLED_MS && hasSettled(pending)) {
        this.cancel(tenant);
      }
    }
  }

  /**
   * A process that has ended is listed for a moment longer. Where it held what is or was to come back, it is off the list at
   * once. A stranger's counts as long as it is listed: one that went and came again would be memory that was taken meanwhile.
   */
  private withoutEnded(sample: GpuSample): GpuSample {
    const processes = sample.processes?.filter(({ pid, ended }) => ended !== true || !this.ownPids.has(pid)) ?? null;
    return { ...sample, processes };
  }

  /** What a tenant still holds although its API says that it is gone. */
  unproven(tenant: string): Holding[] {
    const pending = this.pending.get(tenant);
    if (!pending || (pending.goneAt === null && !pending.failed)) return [];
    return pending.cases
      .filter((reclaim) => !pending.proven.has(reclaim.gpu))
      .map((reclaim) => ({ device: reclaim.gpu, mb: reclaim.heldMb }));
  }

  /** How the memory of the last unload was proven free; null while it is not. */
  proof(tenant: string): string | null {
    return this.proofs.get(tenant) ?? null;
  }

  /** Why a GPU takes nothing new, or null. */
  quarantine(gpu: string): string | null {
    for (const [tenant, pending] of this.pending) {
      const held = pending.cases.find((reclaim) => reclaim.gpu === gpu && !pending.proven.has(gpu));
      if (!pending.failed || !held) continue;
      const mb = `${held.atMost === true ? 'up to ' : ''}${held.heldMb} MB`;
      return pending.goneAt === null
        ? `${tenant} was to end and is still there, with ${mb}`
        : `${mb} of ${tenant} did not come back after it was unloaded`;
    }
    return null;
  }

  tenants(): string[] {
    return [...this.pending.keys()];
  }
}

const hasSettled = ({ cases, samples, proven }: Pending): boolean =>
  cases.every(({ gpu }) => proven.has(gpu) || isStable(samples.get(gpu) ?? []));

function sampleOf({ gpus, processes }: GpuSample, gpu: string): ReclaimSample {
  return {
    usedMb: gpus.find((one) => one.uuid === gpu)?.usedMb ?? null,
    processes:
      processes && new Map(processes.filter(({ uuid }) => uuid === gpu).map(({ pid, usedMb }) => [pid, usedMb])),
  };
}
