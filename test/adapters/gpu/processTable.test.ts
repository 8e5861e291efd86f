import { describe, expect, it, vi } from 'vitest';
import { createProcessTable } from '../../../src/adapters/gpu/processTable.js';

const row = (pid: number) => ({ uuid: 'GPU-a', pid, name: 'x', usedMb: 1 });
const ended = (pid: number) => ({ ...row(pid), ended: true });
const WINDOW = 300;

describe('the table of processes', () => {
  it('is unknown until a line or a proof comes', () => {
    const table = createProcessTable(() => false);
    expect(table.list(0, WINDOW)).toBeNull();
    expect(table.needsProof(0, WINDOW)).toBe(true);
    table.proveEmpty(0);
    expect(table.list(1, WINDOW)).toEqual([]);
    expect(table.needsProof(1, WINDOW)).toBe(false);
  });

  it('drops a process whose line stopped coming while others come', () => {
    const table = createProcessTable(() => false);
    table.see(row(1), 0);
    table.see(row(2), 0);
    table.see(row(2), 400);
    expect(table.list(400, WINDOW)).toEqual([row(2)]);
  });

  it('does not believe silence after lines, nor a proof that is older than a line', () => {
    const table = createProcessTable(() => false);
    table.proveEmpty(0);
    table.see(row(1), 100);
    table.proveEmpty(50);
    expect(table.list(1_000, WINDOW)).toBeNull();
    expect(table.needsProof(1_000, WINDOW)).toBe(true);
    table.proveEmpty(1_000);
    expect(table.list(1_100, WINDOW)).toEqual([]);
  });

  it('keeps name and descent of a process that is about to end, which shows neither any more', async () => {
    let parent: string | null = 'bash';
    const argvOf = vi.fn((pid: number) => Promise.resolve(pid === 1 ? ['x', 'run'] : null));
    const table = createProcessTable(() => true, { parentOf: (_pid, name) => (name === 'x' ? parent : null), argvOf });
    table.see(row(1), 0);
    await Promise.resolve();
    const known = { ...row(1), descent: { verb: 'run', parent: 'bash' } };
    expect(table.list(0, WINDOW)).toEqual([known]);
    parent = null;
    table.see({ ...row(1), name: 'unknown', usedMb: 2 }, 100);
    table.see({ ...row(2), name: 'unknown' }, 100);
    expect(table.list(100, WINDOW)).toEqual([
      { ...known, usedMb: 2 },
      { ...row(2), name: 'unknown' },
    ]);
    // An answer that never comes must not be asked for again and again.
    expect(argvOf.mock.calls).toEqual([[1], [2]]);
  });

  it('asks for a new proof before the old one ends', () => {
    const table = createProcessTable(() => false);
    table.proveEmpty(0);
    expect([table.list(26_000, WINDOW), table.needsProof(26_000, WINDOW)]).toEqual([[], true]);
    expect(table.list(31_000, WINDOW)).toBeNull();
  });

  it('is unknown after a line that cannot be read, and after the stream ended', () => {
    const table = createProcessTable(() => true);
    table.see(row(1), 0);
    table.odd(10);
    expect(table.list(20, WINDOW)).toBeNull();
    table.see(row(1), 400);
    expect(table.list(400, WINDOW)).toEqual([row(1)]);
    table.forget();
    expect(table.list(400, WINDOW)).toBeNull();
  });

  it('marks a process that has ended at once, and drops it when its line stops coming', () => {
    const alive = new Set([1, 2]);
    const table = createProcessTable((pid) => alive.has(pid));
    table.see(row(1), 0);
    table.see(row(2), 0);
    alive.delete(1);
    expect(table.list(10, WINDOW)).toEqual([ended(1), row(2)]);
    alive.delete(2);
    table.see(row(1), 100);
    expect([table.list(110, WINDOW), table.needsProof(110, WINDOW)]).toEqual([[ended(1), ended(2)], false]);
    expect(table.list(310, WINDOW)).toEqual([ended(1)]);
    expect([table.list(401, WINDOW), table.needsProof(401, WINDOW)]).toEqual([null, true]);
  });

  it('does not take another one for it that has its id', () => {
    let alive = true;
    const table = createProcessTable(() => alive);
    table.see(row(1), 0);
    alive = false;
    expect(table.list(10, WINDOW)).toEqual([ended(1)]);
    table.see(row(1), 100);
    expect(table.list(110, WINDOW)).toEqual([ended(1)]);
    alive = true;
    table.see(row(1), 200);
    expect(table.list(210, WINDOW)).toEqual([row(1)]);
  });

  it('goes by the lines alone for a process that this machine never saw', () => {
    const table = createProcessTable(() => false);
    table.see(row(1), 0);
    expect(table.list(10, WINDOW)).toEqual([row(1)]);
  });
});
