/** Ends a timer that has not fired. Calling it twice, or after the timer fired, does nothing. */
export type Cancel = () => void;

/**
 * The simulator's time, in simulated milliseconds since its start. Every duration of the simulated host
 * (loads, reclaims, keep-alives) is measured on it, so one speed scales them all alike.
 */
export interface Clock {
  /** Simulated ms since the start. */
  now(): number;
  /** Calls `action` once, `ms` simulated milliseconds from now. `Infinity` never fires. */
  after(ms: number, action: () => void): Cancel;
  /** The wall-clock time at which a simulated moment happens, as far as the speed of now holds. */
  dateOf(simulatedMs: number): Date;
}

/** Resolves after `ms` simulated milliseconds; rejects with the signal's reason when it aborts first. */
export function sleep(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const leave = (): void => {
      cancel();
      reject(signal?.reason as Error);
    };
    const cancel = clock.after(ms, () => {
      signal?.removeEventListener('abort', leave);
      resolve();
    });
    signal?.addEventListener('abort', leave, { once: true });
  });
}

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly action: () => void;
}

/** Node's timers hold 31 bits of milliseconds; a longer wait is taken in pieces of this length. */
const LONGEST_WAIT_MS = 2 ** 30;

/** Real time times `speed`. The speed may change at any moment; running timers follow it. */
export class SystemClock implements Clock {
  readonly #timers = new Set<Timer>();
  #order = 0;
  #baseSimulatedMs = 0;
  #baseRealMs = performance.now();
  /** Taken once a base: the same moment must have the same date at each look, or it seems to move. */
  #baseDateMs = Date.now();
  #speed: number;
  #wake: NodeJS.Timeout | undefined;

  constructor(speed = 1) {
    this.#speed = speed;
  }

  get speed(): number {
    return this.#speed;
  }

  set speed(speed: number) {
    this.#baseSimulatedMs = this.now();
    this.#baseRealMs = performance.now();
    this.#baseDateMs = Date.now();
    this.#speed = speed;
    this.#arm();
  }

  now(): number {
    return this.#baseSimulatedMs + (performance.now() - this.#baseRealMs) * this.#speed;
  }

  dateOf(simulatedMs: number): Date {
    return new Date(this.#baseDateMs + (simulatedMs - this.#baseSimulatedMs) / this.#speed);
  }

  after(ms: number, action: () => void): Cancel {
    if (ms === Number.POSITIVE_INFINITY) return () => {};
    const timer = { dueMs: this.now() + Math.max(0, ms), order: this.#order++, action };
    this.#timers.add(timer);
    this.#arm();
    return () => {
      if (this.#timers.delete(timer)) this.#arm();
    };
  }

  #arm(): void {
    clearTimeout(this.#wake);
    const next = earliest(this.#timers);
    if (next === undefined) return;
    const waitMs = Math.max(0, (next.dueMs - this.now()) / this.#speed);
    this.#wake = setTimeout(() => this.#fire(), Math.min(Math.ceil(waitMs), LONGEST_WAIT_MS));
  }

  #fire(): void {
    for (let next = earliest(this.#timers); next !== undefined; next = earliest(this.#timers)) {
      if (next.dueMs > this.now()) break;
      this.#timers.delete(next);
      next.action();
    }
    this.#arm();
  }
}

/** A clock that a test drives: time passes only in `advance`. */
export class ManualClock implements Clock {
  readonly #timers = new Set<Timer>();
  #order = 0;
  #nowMs = 0;

  constructor(readonly startedAt = new Date('2026-01-01T00:00:00Z')) {}

  now(): number {
    return this.#nowMs;
  }

  dateOf(simulatedMs: number): Date {
    return new Date(this.startedAt.getTime() + simulatedMs);
  }

  after(ms: number, action: () => void): Cancel {
    if (ms === Number.POSITIVE_INFINITY) return () => {};
    const timer = { dueMs: this.#nowMs + Math.max(0, ms), order: this.#order++, action };
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  /** Lets `ms` pass: each timer fires at its own moment, and what awaits it runs before the next one. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settle();
    for (let next = earliest(this.#timers); next !== undefined; next = earliest(this.#timers)) {
      if (next.dueMs > untilMs) break;
      this.#timers.delete(next);
      this.#nowMs = next.dueMs;
      next.action();
      await settle();
    }
    this.#nowMs = untilMs;
  }
}

function earliest(timers: Iterable<Timer>): Timer | undefined {
  let first: Timer | undefined;
  for (const timer of timers) {
    if (
      first === undefined ||
      timer.dueMs < first.dueMs ||
      (timer.dueMs === first.dueMs && timer.order < first.order)
    ) {
      first = timer;
    }
  }
  return first;
}

/** Lets everything that is ready to run do so, promises and input alike. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
