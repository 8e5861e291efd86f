/** Those who wait until something is known anew. */
export class Waiters {
  private readonly waiting = new Set<() => void>();

  wake(): void {
    for (const woken of this.waiting) woken();
  }

  /** Resolves at the next `wake`, at the latest after `ms`. @throws the signal's reason */
  next(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = (finish: () => void) => () => {
        clearTimeout(timer);
        this.waiting.delete(woken);
        signal.removeEventListener('abort', aborted);
        finish();
      };
      const woken = done(resolve);
      const aborted = done(() => reject(signal.reason as Error));
      const timer = setTimeout(woken, ms);
      this.waiting.add(woken);
      signal.addEventListener('abort', aborted, { once: true });
      if (signal.aborted) aborted();
    });
  }
}
