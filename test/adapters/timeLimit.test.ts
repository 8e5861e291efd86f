import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { timeLimit } from '../../src/adapters/timeLimit.js';

/** What a busy process does by itself now and then. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  gc();
}

const turnOfTheLoop = () => new Promise((resolve) => setImmediate(resolve));

it('ends what waits for it although nothing but the join of signals knows it, and garbage is collected', async () => {
  const outer = new AbortController();
  const join = () => AbortSignal.any([outer.signal, AbortSignal.any([timeLimit(150), new AbortController().signal])]);
  const ended = new Promise<unknown>((resolve) => {
    const joined = join();
    joined.addEventListener('abort', () => resolve(joined.reason), { once: true });
  });
  for (let round = 0; round < 5; round += 1) {
    await turnOfTheLoop();
    collectGarbage();
  }
  const late = AbortSignal.timeout(5_000);
  const reason = await Promise.race([ended, once(late, 'abort').then(() => 'it never fired')]);
  expect(reason).toBeInstanceOf(DOMException);
  expect((reason as DOMException).name).toBe('TimeoutError');
});
