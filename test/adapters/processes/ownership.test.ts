import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { describe, expect, it, vi } from 'vitest';

import {
  completeRecord,
  type OwnershipRecord,
  proveOurs,
  signalOurs,
} from '../../../src/adapters/processes/ownership.js';
import { newMarker } from '../../../src/adapters/processes/spawn.js';
import { lookAt, OWNER_VARIABLE, readBootId } from '../../../src/processes/proc.js';
import { asIntent, lives, startOwned, tempFolder, tidyLater } from './owned.js';

const IDLE = 'setInterval(() => {}, 1000); console.log("up")';
const linux = process.platform === 'linux';

/** A process of somebody else, that answers `still here` to each line. */
async function startStranger(env: NodeJS.ProcessEnv = { LANG: 'C' }) {
  const echo = 'require("readline").createInterface(process.stdin).on("line", () => console.log("still here"))';
  const child = spawn(process.execPath, ['-e', echo], { stdio: ['pipe', 'pipe', 'ignore'], detached: true, env });
  tidyLater(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  const lines = createInterface(child.stdout);
  const pid = child.pid ?? 0;
  const sight = await lookAt(pid);
  if (typeof sight === 'string') throw new Error(`the stranger is ${sight}`);
  return {
    pid,
    startTicks: sight.startTicks,
    async answers(): Promise<string> {
      const line = once(lines, 'line');
      child.stdin.write('?\n');
      return String((await line)[0]);
    },
  };
}

async function forge(parts: Partial<OwnershipRecord>): Promise<OwnershipRecord> {
  return { marker: newMarker(), bootId: await readBootId(), pid: null, startTicks: null, command: ['x'], ...parts };
}

describe.runIf(linux)('proof of ownership (law 5)', () => {
  it('knows its own process, and knows when it is gone', async () => {
    const { record, handle } = await startOwned(await tempFolder(), IDLE);
    expect(await proveOurs(record)).toBe('ours');
    const exit = once(handle, 'exit');
    expect(await signalOurs(record, 'SIGKILL')).toBe('ours');
    await exit;
    expect(await proveOurs(record)).toBe('gone');
    expect(await signalOurs(record, 'SIGKILL')).toBe('gone');
  });

  it('finds the process of an intent by its marker, as after a crash right behind the spawn', async () => {
    const { record } = await startOwned(await tempFolder(), IDLE);
    const intent = asIntent(record);
    expect(await proveOurs(intent)).toBe('ours');
    expect(await completeRecord(intent)).toEqual(record);
    expect(await completeRecord(await forge({}))).toBeNull();
    expect(await proveOurs(await forge({}))).toBe('gone');
  });

  it('never signals a stranger who has the pid now', async () => {
    const stranger = await startStranger();
    const reused = await forge({ pid: stranger.pid, startTicks: stranger.startTicks - 1 });
    expect(await proveOurs(reused)).toBe('gone');
    expect(await signalOurs(reused, 'SIGKILL')).toBe('gone');
    expect(await stranger.answers()).toBe('still here');
  });

  it('never signals a process without our marker, even when pid and start time are right', async () => {
    const unmarked = await startStranger();
    const otherwise = await startStranger({ [OWNER_VARIABLE]: newMarker() });
    for (const stranger of [unmarked, otherwise]) {
      const forged = await forge({ pid: stranger.pid, startTicks: stranger.startTicks });
      expect(await proveOurs(forged)).toBe('not-ours');
      expect(await signalOurs(forged, 'SIGKILL')).toBe('not-ours');
      expect(await stranger.answers()).toBe('still here');
    }
  });

  it('never signals a member of our group by a marker that only looks alike', async () => {
    const marker = newMarker();
    const stranger = await startStranger({ [OWNER_VARIABLE]: `${marker}0` });
    const forged = await forge({ marker });
    expect(await signalOurs(forged, 'SIGKILL')).toBe('gone');
    expect(await stranger.answers()).toBe('still here');
  });

  it('counts a process of an earlier boot as gone', async () => {
    const { record } = await startOwned(await tempFolder(), IDLE);
    expect(await proveOurs({ ...record, bootId: '00000000-0000-0000-0000-000000000000' })).toBe('gone');
  });

  it('knows nothing without a boot id, so it signals nothing', async () => {
    const { record, pid } = await startOwned(await tempFolder(), IDLE);
    expect(await signalOurs({ ...record, bootId: null }, 'SIGKILL')).toBe('unknown');
    expect(await lives(pid)).toBe(true);
  });

  it('sees that an ended process which nobody reaped holds nothing', async () => {
    // The shell becomes a sleep, which never asks for its child's end.
    const parent = spawn('sh', ['-c', 'sleep 0.4 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    tidyLater(() => void parent.kill('SIGKILL'));
    const [line] = (await once(createInterface(parent.stdout), 'line')) as [string];
    await vi.waitFor(async () => expect(await lookAt(Number(line))).toMatchObject({ ended: true }), 10_000);
    const sight = await lookAt(Number(line));
    const startTicks = typeof sight === 'string' ? null : sight.startTicks;
    expect(await proveOurs(await forge({ pid: Number(line), startTicks }))).toBe('gone');
  });
});
