import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { descentOf, isThere } from '../../src/processes/proc.js';

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

describe('the descent of a process', () => {
  it('is its first argument and who started it, and unknown where another process has that id', async () => {
    const child = spawn('sleep', ['60']);
    try {
      await once(child, 'spawn');
      const pid = child.pid ?? Number.NaN;
      const parent = readFileSync('/proc/self/comm', 'utf8').trim();
      await vi.waitFor(() => expect(descentOf(pid, '/usr/bin/sleep')).toMatchObject({ verb: '60' }));
      expect(descentOf(pid, 'sleep')?.parent).toBe(parent);
      expect(descentOf(pid, 'ollama')).toBeNull();
      expect(descentOf(2 ** 30, 'sleep')).toBeNull();
    } finally {
      child.kill('SIGKILL');
    }
  });
});
