/**
 * A signal that is aborted with a `TimeoutError` after so many ms, made to be joined with others by `AbortSignal.any`.
 * Node 20 collects a timeout that only such a join knows, and then it never fires (nodejs/node issue 57736): the bound
 * would be no bound (law 8). A timeout that has a listener stays until it fires.
 */
export function timeLimit(ms: number): AbortSignal {
  const signal = AbortSignal.timeout(ms);
  signal.addEventListener('abort', () => {}, { once: true });
  return signal;
}

/** Its time has passed. Another reason is a caller who does not want it any more. */
export const isOver = ({ aborted, reason }: AbortSignal): boolean =>
  aborted && reason instanceof Error && reason.name === 'TimeoutError';
