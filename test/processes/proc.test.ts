import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { isThere, parentName } from '../../src/processes/proc.js';

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
