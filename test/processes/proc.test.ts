import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
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
  it('is unknown, takes no thread that others need, and is asked anew once it has come back', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vramflow-test-'));
    try {
      // Opening a pipe for reading waits for whoever writes: as a read of a process whose memory is locked does.
      const pipes = Array.from({ length: 8 }, (_, index) => join(folder, `environ${index}`));
      execFileSync('mkfifo', pipes);
      const all = [...pipes, ...pipes].map(readUnlessItHangs);
      expect(await Promise.all(all)).toEqual(all.map(() => 'unknown'));
      expect(await readFile('/proc/self/comm', 'utf8')).toContain('node');
      for (const pipe of pipes.slice(0, 2)) writeFileSync(pipe, 'it goes on');
      let reading = Promise.resolve('');
      await vi.waitFor(async () => {
        reading = readUnlessItHangs(pipes[0] ?? '');
        expect(await Promise.race([reading, pause(50, 'it waits')])).toBe('it waits');
      });
      writeFileSync(pipes[0] ?? '', 'A=1');
      expect(await reading).toBe('A=1');
      expect(await Promise.all(['cmdline', 'environ'].map((name) => readUnlessItHangs(`/proc/self/${name}`)))).toEqual([
        expect.stringContaining('node'),
        expect.stringContaining('PATH='),
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
