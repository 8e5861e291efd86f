import { readFile } from 'node:fs/promises';

import { describe, expect, it, vi } from 'vitest';

import { type Ending, endOwned } from '../../../src/adapters/processes/ending.js';
import { lives, printed, startOwned, tempFolder } from './owned.js';

const IDLE = 'setInterval(() => {}, 1000);';
const DEAF = `process.on("SIGTERM", () => console.log("heard")); ${IDLE}`;
const linux = process.platform === 'linux';

function ending(parts: Partial<Ending> = {}): Ending {
  return { ask: null, graceMs: 0, termMs: 5_000, handle: null, signal: AbortSignal.timeout(20_000), ...parts };
}

describe.runIf(linux)('the end of an owned process', () => {
  it('asks first and sends no signal to one that ends by itself', async () => {
    const folder = await tempFolder();
    const { record, pid, log } = await startOwned(
      folder,
      `${DEAF} process.on("SIGUSR2", () => process.exit(0)); console.log("up")`,
    );
    const ask = async () => void process.kill(pid, 'SIGUSR2');
    expect(await endOwned(record, ending({ ask, graceMs: 10_000 }))).toBe('ended');
    expect(await readFile(log, 'utf8')).not.toContain('heard');
    expect(await endOwned(record, ending({ ask, graceMs: 10_000 }))).toBe('ended');
  });

  it('sends SIGTERM when asking fails or does not help', async () => {
    const folder = await tempFolder();
    for (const ask of [() => Promise.reject(new Error('nobody listens')), () => new Promise<void>(() => {})]) {
      const { record, pid } = await startOwned(folder, `${IDLE} console.log("up")`);
      expect(
        await endOwned(record, ending({ ask: (signal) => Promise.race([ask(), aborted(signal)]), graceMs: 50 })),
      ).toBe('ended');
      expect(await lives(pid)).toBe(false);
    }
  });

  it('kills one that does not hear SIGTERM, after its time for it', async () => {
    const { record, pid, log } = await startOwned(await tempFolder(), `${DEAF} console.log("up")`);
    expect(await endOwned(record, ending({ termMs: 200 }))).toBe('ended');
    expect(await lives(pid)).toBe(false);
    expect(await readFile(log, 'utf8')).toContain('heard');
  });

  it('ends the children too, also when their parent is gone already', async () => {
    const child = `require("child_process").spawn(process.execPath, ["-e", ${JSON.stringify(`${DEAF} console.log("child", process.pid)`)}], { stdio: "inherit" });`;
    const { record, pid, handle, log } = await startOwned(await tempFolder(), `${child} ${IDLE} console.log("up")`);
    await printed(log, 'child');
    const childPid = Number(/child (\d+)/.exec(await readFile(log, 'utf8'))?.[1]);
    expect(await lives(childPid)).toBe(true);
    handle.kill('SIGKILL');
    expect(await endOwned(record, ending({ termMs: 200 }))).toBe('ended');
    expect([await lives(pid), await lives(childPid)]).toEqual([false, false]);
  });

  it('leaves alone what it cannot prove, and says so', async () => {
    const { record, pid } = await startOwned(await tempFolder(), `${IDLE} console.log("up")`);
    expect(await endOwned({ ...record, marker: 'another' }, ending())).toBe('not-ours');
    expect(await endOwned({ ...record, bootId: null }, ending())).toBe('unknown');
    expect(await lives(pid)).toBe(true);
  });

  it('ends a child that it holds where there is no /proc to prove anything', async () => {
    const { record, handle, pid } = await startOwned(await tempFolder(), `${DEAF} console.log("up")`);
    expect(await endOwned({ ...record, bootId: null }, ending({ handle, termMs: 200 }))).toBe('ended');
    expect(await lives(pid)).toBe(false);
  });

  it('stops waiting on abort, with the reason of the abort', async () => {
    const { record, pid } = await startOwned(await tempFolder(), `${DEAF} console.log("up")`);
    const stop = new AbortController();
    const ended = endOwned(record, ending({ signal: stop.signal }));
    stop.abort(new Error('enough'));
    await expect(ended).rejects.toThrow('enough');
    expect(await lives(pid)).toBe(true);
  });

  it('kills it all the same when the time is over before the kill was due', async () => {
    const { record, pid, log } = await startOwned(await tempFolder(), `${DEAF} console.log("up")`);
    const ended = endOwned(record, ending({ termMs: 60_000, signal: AbortSignal.timeout(500) }));
    await expect(ended).rejects.toMatchObject({ name: 'TimeoutError' });
    await vi.waitFor(async () => expect(await lives(pid)).toBe(false), 5_000);
    expect(await readFile(log, 'utf8')).toContain('heard');
  });
});

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
