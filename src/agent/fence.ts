import type { FencedCall } from '../contracts/activities.js';
import type { Epochs, OperationRef } from '../contracts/operation.js';
import type { StateFile } from './stateFile.js';

/** Law 3: a call with an epoch older than one already seen is refused. */
export class StaleEpoch extends Error {
  constructor(readonly highest: Epochs) {
    super('a newer turn has been seen on these devices');
  }
}

/** A newer turn on the same device ended this effect. */
export class Fenced extends Error {
  constructor() {
    super('a newer turn ended this effect');
  }
}

/** The operation has not looked at the host in this life of the agent: what it plans on may not be so any more. */
export class NotEntered extends Error {
  constructor() {
    super('the agent has started anew since this operation looked');
  }
}

interface Effect {
  key: string;
  /** For people: `load model/qwen3-vl:8b`. */
  name: string;
  operation: OperationRef;
  devices: string[];
  abort: AbortController;
  callers: number;
  /** It was aborted, and did not end in time: its devices are not safe to use. */
  stuck: boolean;
  done: Promise<unknown>;
}

interface Holder {
  operation: OperationRef;
  devices: string[];
  sinceMs: number;
  /** Of its last call. */
  seenMs: number;
}

/** A holder without an effect under way that has not called for so long has ended without a word. */
const SILENT_MS = 15_000;

/** How long an aborted effect may take to end before its devices are quarantined (law 8). */
const END_BOUND_MS = 10_000;

/**
 * The barrier (law 3): effects of one epoch per device only. `enter` comes first in each operation; it ends what older
 * turns, and this operation's own former attempts, still do. The highest epochs are on disk.
 */
export class Fence {
  private readonly effects = new Set<Effect>();
  private readonly entered = new Map<string, Holder>();

  constructor(
    private readonly epochs: StateFile<Epochs>,
    private readonly now: () => number,
    /** Called when the last operation has left. */
    private readonly onIdle: () => void = () => {},
  ) {}

  highest(): Epochs {
    return this.epochs.get();
  }

  /** The operations at work here. One that was terminated says no farewell: it stops counting when it falls silent. */
  holders(): Holder[] {
    const silentSince = this.now() - SILENT_MS;
    const isAtWork = ({ operation, seenMs }: Holder) =>
      seenMs > silentSince || [...this.effects].some((effect) => effect.operation.runId === operation.runId);
    return [...this.entered.values()].filter(isAtWork);
  }

  /** True while an operation holds any device. */
  isHeld(): boolean {
    return this.holders().length > 0;
  }

  /** True when a newer turn has been seen on any of the call's devices. */
  isStale({ epochs }: FencedCall): boolean {
    const highest = this.epochs.get();
    return Object.entries(epochs).some(([device, epoch]) => epoch < (highest[device] ?? 0));
  }

  /** True when the call's operation has looked at the host in this life of the agent, and no other has since. */
  hasEntered({ operation }: FencedCall): boolean {
    return this.entered.has(operation.runId);
  }

  /** Why a device takes nothing new, or null: an effect on it was ended and does not end (law 8). */
  quarantine(device: string): string | null {
    for (const effect of this.effects) {
      if (effect.stuck && effect.devices.includes(device)) return `${effect.name} was ended and does not end`;
    }
    return null;
  }

  /** Ends what older turns still do. What does not end in time quarantines its devices. @throws StaleEpoch */
  async enter(call: FencedCall): Promise<void> {
    const highest = this.epochs.get();
    if (this.isStale(call)) throw new StaleEpoch(highest);
    const devices = Object.keys(call.epochs);
    const raised = devices.filter((device) => (call.epochs[device] ?? 0) > (highest[device] ?? 0));
    if (raised.length > 0) this.epochs.set({ ...highest, ...call.epochs });
    const older = [...this.effects].filter((effect) => effect.devices.some((device) => devices.includes(device)));
    for (const effect of older) effect.abort.abort(new Fenced());
    for (const [runId, holder] of this.entered) {
      if (runId !== call.operation.runId && holder.devices.some((device) => devices.includes(device))) {
        this.entered.delete(runId);
      }
    }
    const since = this.entered.get(call.operation.runId)?.sinceMs ?? this.now();
    this.entered.set(call.operation.runId, {
      operation: call.operation,
      devices,
      sinceMs: since,
      seenMs: this.now(),
    });
    await Promise.all(older.filter((effect) => !effect.stuck).map((effect) => this.ended(effect)));
  }

  /**
   * Runs an effect on devices, or joins it when the same one runs already: a repeated attempt is not a second effect.
   * A device without an epoch in the call is refused as a stale one is: its turn is not this operation's.
   * @param attempt names the attempt within its operation
   * @throws StaleEpoch, NotEntered, Fenced, and what the effect throws
   */
  async run<T>(
    call: FencedCall,
    attempt: { key: string; name: string; devices: string[] },
    outer: AbortSignal,
    effect: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const withoutEpoch = attempt.devices.some((device) => !(device in call.epochs));
    if (withoutEpoch || this.isStale(call)) throw new StaleEpoch(this.epochs.get());
    if (!this.hasEntered(call)) throw new NotEntered();
    const key = `${call.operation.runId}/${attempt.key}`;
    const running = [...this.effects].find((one) => one.key === key) ?? this.begin({ ...attempt, key }, call, effect);
    running.callers += 1;
    const leave = () => {
      running.callers -= 1;
      if (running.callers === 0) running.abort.abort(outer.reason);
    };
    if (outer.aborted) leave();
    else outer.addEventListener('abort', leave, { once: true });
    try {
      return (await running.done) as T;
    } finally {
      const holder = this.entered.get(call.operation.runId);
      if (holder) holder.seenMs = this.now();
      outer.removeEventListener('abort', leave);
    }
  }

  /** The operation has ended here. */
  leave(operation: OperationRef): void {
    if (this.entered.delete(operation.runId) && this.entered.size === 0) this.onIdle();
  }

  /** The operation was terminated: nobody will conclude it. What it still does is ended. */
  abandon(operation: OperationRef): void {
    for (const effect of this.effects) {
      if (effect.operation.runId === operation.runId) effect.abort.abort(new Fenced());
    }
    this.leave(operation);
  }

  private begin<T>(
    attempt: { key: string; name: string; devices: string[] },
    { operation }: FencedCall,
    effect: (signal: AbortSignal) => Promise<T>,
  ): Effect {
    const abort = new AbortController();
    const started: Effect = {
      ...attempt,
      operation,
      abort,
      callers: 0,
      stuck: false,
      done: Promise.resolve(),
    };
    started.done = effect(abort.signal)
      .catch((error: unknown) => {
        throw abort.signal.reason instanceof Fenced ? abort.signal.reason : error;
      })
      .finally(() => this.effects.delete(started));
    this.effects.add(started);
    return started;
  }

  private async ended(effect: Effect): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, END_BOUND_MS, 'late');
    });
    const end = effect.done.then(
      () => 'ended',
      () => 'ended',
    );
    if ((await Promise.race([end, late])) === 'late') effect.stuck = true;
    clearTimeout(timer);
  }
}
