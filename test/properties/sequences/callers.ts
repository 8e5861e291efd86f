/** Who asks for texts in a random sequence. */

/** Whom Ollama may keep waiting for ever leaves after so long, as a person would: a request has no end of its own. */
const PATIENCE_MS = 10_000;

export interface Caller {
  leaving: AbortController;
  patience: NodeJS.Timeout | undefined;
}

export class Callers {
  private readonly there = new Set<Caller>();
  /** Requests that faults of this sequence keep for ever, less the callers who lost their patience. */
  private hangs = 0;

  constructor(private readonly complain: (what: string) => void) {}

  come(): Caller {
    const caller: Caller = { leaving: new AbortController(), patience: undefined };
    this.there.add(caller);
    if (this.hangs > 0) this.losePatienceLater(caller);
    return caller;
  }

  go(caller: Caller): void {
    clearTimeout(caller.patience);
    this.there.delete(caller);
  }

  leave(): void {
    for (const { leaving } of this.there) leaving.abort();
  }

  expectNoHang(): void {
    this.hangs = 0;
  }

  /** It may be one who has asked already. */
  expectHang(): void {
    this.hangs += 1;
    for (const caller of this.there) this.losePatienceLater(caller);
  }

  private losePatienceLater(caller: Caller): void {
    caller.patience ??= setTimeout(() => {
      if (this.hangs <= 0) this.complain(`a caller got no answer in ${PATIENCE_MS} ms, and no fault explains it`);
      this.hangs -= 1;
      caller.leaving.abort();
    }, PATIENCE_MS);
  }
}
