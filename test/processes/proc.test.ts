import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { isThere, parentName, readUnlessItHangs } from '../../src/processes/proc.js';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('whether a process has an id', () => {
  it('is seen of its own and of others', () => {
    expect([isThere(process.pid), isThere(1), isThere(2 ** 30)]).toEqual([true, true, false]);
  });

  it.each(['EPERM', 'EACCES'])(
    'is so when the system forbids the look (%s): only ESRCH says that none has it',
    (code) => {
      vi.spyOn(process, 'kill').mockImplementation(() => {
        throw Object.assign(new Error(`kill ${code}`), { code });
      });
      expect(isThere(4_711)).toBe(true);
    },
  );
});

describe('the name of a parent', () => {
  it('is that of the process which started it, and unknown where another process has that id', async () => {
    const child = spawn('sleep', ['60']);
    try {
      await once(child, 'spawn');
      const pid = child.pid ?? Number.NaN;
      const parent = readFileSync('/proc/self/comm', 'utf8').trim();
      await vi.waitFor(() => expect(parentName(pid, '/usr/bin/sleep')).toBe(parent));
      expect(parentName(pid, 'ollama')).toBeNull();
      expect(parentName(2 ** 30, 'sleep')).toBeNull();
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('a read that does not come back', () => {
  it('is unknown, holds one thread however often it is asked for, and is asked anew once it has come back', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vramflow-test-'));
    try {
      // Opening a pipe for reading waits for whoever writes: as a read of a process whose memory is locked does.
      const pipe = join(folder, 'environ');
      execFileSync('mkfifo', [pipe]);
      expect(await readUnlessItHangs(pipe)).toBe('unknown');
      const again = Array.from({ length: 8 }, () => readUnlessItHangs(pipe));
      expect(await Promise.all(again)).toEqual(again.map(() => 'unknown'));
      expect(await readUnlessItHangs('/proc/self/cmdline')).toContain('node');
      writeFileSync(pipe, 'it goes on');
      let reading = Promise.resolve('');
      await vi.waitFor(async () => {
        reading = readUnlessItHangs(pipe);
        expect(await Promise.race([reading, pause(50, 'it waits')])).toBe('it waits');
      });
      writeFileSync(pipe, 'A=1');
      expect(await reading).toBe('A=1');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
