/** Rejects with the signal's reason on abort; the promise itself goes on. */
export async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const left = new AbortController();
  try {
    await Promise.race([
      promise,
      new Promise<never>((_resolve, reject) => {
        const abort = (): void => reject(signal.reason as Error);
        signal.addEventListener('abort', abort, { once: true, signal: left.signal });
        if (signal.aborted) abort();
      }),
    ]);
  } finally {
    left.abort();
  }
}

/** Waits for the end of a promise, whatever it is, but no longer than so many ms. */
export async function within(ms: number, promise: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const time = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise.catch(() => {}), time]);
  clearTimeout(timer);
}
