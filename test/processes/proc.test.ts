import { afterEach, describe, expect, it, vi } from 'vitest';
import { isThere } from '../../src/processes/proc.js';

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
