import type { Cancel, Clock } from './clock.js';
import { BadRequest, OutOfMemory, unknownName } from './errors.js';
import type { FaultBoard } from './faults.js';
import type { CardSpec } from './presets.js';
import { jittered, type Random } from './random.js';
import type { HolderKind } from './record.js';
import type { Recorder } from './recorder.js';

/**
 * Simulated processes have ids above Linux's highest possible one (2^22), so that none is ever taken for,
 * or signalled as, a real process of this machine.
 */
const FIRST_SIMULATED_PID = 2 ** 22 + 1000;

/** What the driver itself uses on a card with nobody on it, in MB. */
const DRIVER_MB = 14;

/** A process that holds memory of the cards. */
export interface GpuProcess {
  readonly holder: string;
  readonly pid: number;
  readonly name: string;
  readonly kind: HolderKind;
  /** In nvidia-smi's list. An ended process leaves it before its memory is back. */
  listed: boolean;
  ended: boolean;
}

export interface Card {
  readonly index: number;
  readonly spec: CardSpec;
  /** By holder, MB. */
  readonly holdings: Map<string, number>;
  /** Work running on it now. */
  busy: number;
  /** Set by hand; null follows the work. */
  temperatureC: number | null;
  utilizationPercent: number | null;
}

/** A process with what it holds, in MB by card. */
export interface ProcessSnapshot {
  readonly kind: HolderKind;
  readonly name: string;
  readonly pid: number;
  readonly ended: boolean;
  readonly mb: Readonly<Record<string, number>>;
}

interface HostDependencies {
  readonly clock: Clock;
  readonly random: Random;
  readonly recorder: Recorder;
  readonly faults: FaultBoard;
}

/** The cards, the processes on them, and the way memory comes and goes: slowly, and later than one is told. */
export class GpuHost {
  readonly cards: readonly Card[];
  /** How long the memory of an ended process takes to come back, in simulated ms, before jitter. */
  reclaimMs = 700;
  readonly #dependencies: HostDependencies;
  readonly #processes = new Map<string, GpuProcess>();
  readonly #timers = new Set<Cancel>();
  readonly #changeWatchers = new Set<() => void>();
  #lastPid = FIRST_SIMULATED_PID;

  constructor(specs: readonly CardSpec[], dependencies: HostDependencies) {
    this.#dependencies = dependencies;
    this.cards = specs.map((spec, index) => ({
      index,
      spec,
      holdings: new Map(),
      busy: 0,
      temperatureC: null,
      utilizationPercent: null,
    }));
    for (const { spec } of this.cards) {
      const driver = { holder: `driver-${spec.uuid}`, pid: 0, name: 'driver', kind: 'driver' as const };
      const process = { ...driver, listed: false, ended: false };
      this.#processes.set(process.holder, process);
      this.allocate(process, spec.uuid, DRIVER_MB);
    }
  }

  get processes(): GpuProcess[] {
    return [...this.#processes.values()];
  }

  /** Calls `action` when a process comes or goes, or changes hands. */
  onChange(action: () => void): void {
    this.#changeWatchers.add(action);
  }

  /** @throws {BadRequest} when no card has this UUID or index. */
  card(gpu: string | number): Card {
    const found = this.cards.find((card) => card.spec.uuid === gpu || String(card.index) === String(gpu));
    return (
      found ??
      unknownName(
        'GPU',
        String(gpu),
        this.cards.map((card) => card.spec.uuid),
      )
    );
  }

  /** @throws {BadRequest} when no live process has this id. */
  processOf(pid: number): GpuProcess {
    const live = this.processes.filter((process) => !process.ended && process.pid !== 0);
    return (
      live.find((process) => process.pid === pid) ??
      unknownName(
        'process',
        String(pid),
        live.map((p) => String(p.pid)),
      )
    );
  }

  usedMb(card: Card): number {
    return [...card.holdings.values()].reduce((sum, mb) => sum + mb, 0);
  }

  freeMb(card: Card): number {
    return card.spec.totalMb - card.spec.reservedMb - this.usedMb(card);
  }

  /** MB that a holder has on a card. */
  heldMb(holder: string, gpu: string): number {
    return this.card(gpu).holdings.get(holder) ?? 0;
  }

  /** `pid` is given for a real process; a simulated one gets an id of its own. */
  startProcess(kind: HolderKind, name: string, pid: number = ++this.#lastPid): GpuProcess {
    if (pid > FIRST_SIMULATED_PID) this.#lastPid = Math.max(this.#lastPid, pid);
    const holder = `${kind}-${pid}`;
    if (this.#processes.get(holder)?.ended === false) throw new BadRequest(`process ${pid} is there already`);
    if (this.#processes.has(holder)) throw new BadRequest(`the memory of an earlier process ${pid} is not back yet`);
    const process = { holder, pid, name, kind, listed: true, ended: false };
    this.#processes.set(holder, process);
    this.#dependencies.recorder.add({ kind: 'process-start', holder, holderKind: kind, name, pid });
    this.#changed();
    return process;
  }

  /**
   * Sets what a process holds on a card to `mb`.
   * @throws {OutOfMemory} when the card has less than what is asked; nothing changes then, and the record keeps it.
   */
  resize(process: GpuProcess, gpu: string, mb: number): void {
    const delta = Math.round(mb) - this.heldMb(process.holder, gpu);
    if (delta > 0) this.allocate(process, gpu, delta);
    else if (delta < 0) this.#move(process, this.card(gpu), delta);
  }

  allocate(process: GpuProcess, gpu: string, mb: number): void {
    const card = this.card(gpu);
    const freeMb = this.freeMb(card);
    const { recorder } = this.#dependencies;
    if (mb > freeMb) {
      const { holder, kind: holderKind, name } = process;
      recorder.add({ kind: 'oom', holder, holderKind, name, gpu, askedMb: mb, freeMb });
      throw new OutOfMemory(gpu, mb, freeMb);
    }
    this.#move(process, card, mb);
  }

  /**
   * Ends a process. Its memory comes back in two steps over the reclaim time; nvidia-smi's list loses the process
   * half-way. Resolves when all is back, which under the fault memory-held is some time after that is cleared.
   */
  async end(process: GpuProcess): Promise<void> {
    if (process.ended) return;
    process.ended = true;
    this.#changed();
    const held = this.#isHeld(process);
    await this.#wait(this.#reclaimDelayMs() * 0.5);
    process.listed = false;
    this.#dependencies.recorder.add({
      kind: 'process-end',
      holder: process.holder,
      holderKind: process.kind,
      name: process.name,
      pid: process.pid,
    });
    if (held) await new Promise<void>((resolve) => this.#dependencies.faults.onceCleared('memory-held', resolve));
    await this.#giveBack(process);
  }

  /** The processes as a restart needs them; what the driver uses is not among them. */
  snapshot(): ProcessSnapshot[] {
    return this.processes
      .filter(({ kind }) => kind !== 'driver')
      .map(({ holder, kind, name, pid, ended }) => {
        const held = this.cards.map((card) => [card.spec.uuid, card.holdings.get(holder) ?? 0] as const);
        return { kind, name, pid, ended, mb: Object.fromEntries(held.filter(([, mb]) => mb > 0)) };
      });
  }

  /** Takes up a process of an earlier run. One that had ended goes on giving its memory back. */
  restore(snapshot: ProcessSnapshot): GpuProcess {
    const process = this.startProcess(snapshot.kind, snapshot.name, snapshot.pid);
    for (const [gpu, mb] of Object.entries(snapshot.mb)) this.resize(process, gpu, mb);
    if (snapshot.ended) void this.end(process);
    return process;
  }

  /** Ends all waiting, when the simulator itself ends. */
  stop(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }

  async #giveBack(process: GpuProcess): Promise<void> {
    const delayMs = this.#reclaimDelayMs();
    const heldMb = new Map(this.cards.map((card) => [card, card.holdings.get(process.holder) ?? 0]));
    await this.#wait(delayMs * 0.3);
    for (const [card, mb] of heldMb) if (mb > 1) this.#move(process, card, -Math.floor(mb / 2));
    await this.#wait(delayMs * 0.2);
    for (const [card, mb] of heldMb) {
      const restMb = card.holdings.get(process.holder) ?? 0;
      if (restMb === 0) continue;
      this.#move(process, card, -restMb);
      this.#dependencies.recorder.add({
        kind: 'reclaimed',
        holder: process.holder,
        name: process.name,
        gpu: card.spec.uuid,
        mb,
      });
    }
    this.#processes.delete(process.holder);
    this.#changed();
  }

  #reclaimDelayMs(): number {
    const { faults, random } = this.#dependencies;
    return jittered(this.reclaimMs, random) + Number(faults.active('reclaim-slow')?.ms ?? 0);
  }

  #isHeld(process: GpuProcess): boolean {
    const { faults } = this.#dependencies;
    const whose = faults.active('memory-held');
    if (whose === null || (whose.of !== 'any' && (whose.of ?? 'runner') !== process.kind)) return false;
    return faults.take('memory-held') !== null;
  }

  #move(process: GpuProcess, card: Card, delta: number): void {
    const holderMb = (card.holdings.get(process.holder) ?? 0) + delta;
    if (holderMb === 0) card.holdings.delete(process.holder);
    else card.holdings.set(process.holder, holderMb);
    this.#dependencies.recorder.add({
      kind: delta > 0 ? 'allocated' : 'freed',
      holder: process.holder,
      holderKind: process.kind,
      name: process.name,
      gpu: card.spec.uuid,
      mb: Math.abs(delta),
      holderMb,
      usedMb: this.usedMb(card),
    });
    // A runner's memory changes with each step of a load; what counts for a restart is the whole load, told apart.
    if (process.kind !== 'runner') this.#changed();
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#dependencies.clock.after(ms, () => {
        this.#timers.delete(cancel);
        resolve();
      });
      this.#timers.add(cancel);
    });
  }

  #changed(): void {
    for (const watcher of this.#changeWatchers) watcher();
  }
}
