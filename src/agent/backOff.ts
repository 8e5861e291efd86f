import { nextRestart } from '../domain/restartPolicy.js';

/** Why, and until when: ISO time. */
export interface HeldBack {
  reason: string;
  nextTryAt: string;
}

/** P8: a service that dies, or does not come up, or is unhealthy, again and again is started again less and less often. */
export class BackOff {
  private restarts = 0;
  private held: HeldBack | null = null;
  private timer: NodeJS.Timeout | null = null;

  /** @param onOver it may be started again */
  constructor(private readonly onOver: () => void) {}

  heldBack(): HeldBack | null {
    return this.held;
  }

  /** @param healthyForMs how long the run that failed was ready; 0 when it never was */
  hold(reason: string, healthyForMs: number): void {
    const { delayMs, restarts } = nextRestart(this.restarts, healthyForMs);
    this.end();
    this.restarts = restarts;
    this.held = { reason, nextTryAt: new Date(Date.now() + delayMs).toISOString() };
    this.timer = setTimeout(() => {
      this.end();
      this.onOver();
    }, delayMs);
  }

  /** It is tried already, or is well: the next failure waits longer all the same. */
  end(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    this.held = null;
  }

  /** What was wrong is over. */
  forget(): void {
    this.end();
    this.restarts = 0;
  }
}
