import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';

import { describe, expect, it } from 'vitest';

import { addressOf, tryLock, withLock } from '../../src/embedded/lock.js';

const name = () => `/no/such/file/${randomUUID()}`;

describe('the lock', () => {
  it('has one holder at a time, and every waiter gets its turn', async () => {
    const path = name();
    let inside = 0;
    const turns: number[] = [];
    const work = (turn: number) => async () => {
      inside += 1;
      expect(inside).toBe(1);
      await new Promise((done) => setImmediate(done));
      turns.push(turn);
      inside -= 1;
    };
    await Promise.all([1, 2, 3, 4, 5].map((turn) => withLock(path, { timeoutMs: 5_000 }, work(turn))));
    expect(turns.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5]);
  });

  it('is given back when its holder is killed', async () => {
    const path = name();
    const script = `require('node:net').createServer().listen(process.argv[1], () => console.log('held'))`;
    // An abstract address begins with NUL, which no argument can hold.
    const code = script.replace('process.argv[1]', JSON.stringify(addressOf(path)).replace('\\u0000', '\\0'));
    const holder = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(holder.stdout, 'data');
    expect(await tryLock(path)).toBeNull();
    const waiting = withLock(path, { timeoutMs: 10_000 }, () => Promise.resolve('mine'));
    holder.kill('SIGKILL');
    expect(await waiting).toBe('mine');
  });

  it('bounds the wait, and can be left', async () => {
    const path = name();
    const lock = await tryLock(path);
    let told = 0;
    const work = () => Promise.resolve('never');
    await expect(withLock(path, { timeoutMs: 20, onWait: () => told++ }, work)).rejects.toMatchObject({
      kind: 'locked',
    });
    expect(told).toBe(1);
    const reason = new Error('left');
    const signal = AbortSignal.abort(reason);
    await expect(withLock(path, { timeoutMs: 5_000, signal }, work)).rejects.toBe(reason);
    await lock?.release();
    expect(await withLock(path, { timeoutMs: 20 }, () => Promise.resolve('free'))).toBe('free');
  });
});
