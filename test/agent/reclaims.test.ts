import { describe, expect, it } from 'vitest';
import { createProcessTable } from '../../src/adapters/gpu/processTable.js';
import type { GpuProcess, GpuSample } from '../../src/adapters/gpu/reader.js';
import { type Before, Reclaims } from '../../src/agent/reclaims.js';

const A = 'model/a';
const RUNNER = 500;

const gpu = (uuid: string, usedMb: number | null) => ({
  uuid,
  index: 0,
  name: 'Test GPU',
  totalMb: 24_564,
  usedMb,
  freeMb: usedMb === null ? null : 24_564 - usedMb,
  utilizationPercent: 0,
  temperatureC: 40,
  health: usedMb === null ? ('unknown' as const) : ('ok' as const),
  problem: null,
});
const runner = (usedMb: number, uuid = 'g0'): GpuProcess => ({ uuid, pid: RUNNER, name: 'ollama', usedMb });
const sample = (takenAt: number, used: Record<string, number | null>, processes: GpuProcess[] = []): GpuSample => ({
  takenAt,
  gpus: Object.entries(used).map(([uuid, mb]) => gpu(uuid, mb)),
  processes,
  problem: null,
});

const begin = (reclaims: Reclaims, tenant: string, before: Partial<Before>): void =>
  reclaims.begin(tenant, {
    holdings: [],
    ownPids: [],
    pidsOfOthers: [],
    sample: sample(0, {}),
    measured: true,
    ...before,
  });

function unloading() {
  const clock = { now: 1_000 };
  const reclaims = new Reclaims(() => clock.now);
  begin(reclaims, A, {
    holdings: [{ device: 'g0', mb: 10_500 }],
    ownPids: [RUNNER],
    sample: sample(900, { g0: 11_300 }, [runner(10_500)]),
  });
  return { clock, reclaims };
}

describe('memory that waits for its proof', () => {
  it('is held by nobody twice: by its tenant while it is listed, then by its unload', () => {
    const { reclaims } = unloading();
    expect(reclaims.unproven(A)).toEqual([]);
    reclaims.gone(A);
    expect(reclaims.unproven(A)).toEqual([{ device: 'g0', mb: 10_500 }]);
    expect(reclaims.tenants()).toEqual([A]);
  });

  it('is proven by a sample taken after the tenant has gone, and by no earlier one', () => {
    const { reclaims, clock } = unloading();
    reclaims.take(sample(1_100, { g0: 800 }));
    expect(reclaims.has(A)).toBe(true);
    clock.now = 2_000;
    reclaims.gone(A);
    reclaims.take(sample(2_000, { g0: 800 }));
    expect(reclaims.has(A)).toBe(true);
    expect(reclaims.proof(A)).toBeNull();
    reclaims.take(sample(2_001, { g0: 800 }));
    expect(reclaims.has(A)).toBe(false);
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
    expect(reclaims.unproven(A)).toEqual([]);
  });

  it('is proven GPU by GPU', () => {
    const reclaims = new Reclaims(() => 0);
    const holdings = [
      { device: 'g0', mb: 9_000 },
      { device: 'g1', mb: 9_000 },
      { device: 'cpu', mb: 500 },
    ];
    begin(reclaims, A, {
      holdings,
      ownPids: [RUNNER],
      sample: sample(0, { g0: 9_000, g1: 9_000 }, [runner(9_000), runner(9_000, 'g1')]),
    });
    reclaims.gone(A);
    reclaims.take(sample(1, { g0: 0, g1: 9_000 }, [runner(9_000, 'g1')]));
    expect(reclaims.unproven(A)).toEqual([{ device: 'g1', mb: 9_000 }]);
    reclaims.take(sample(2, { g0: 0, g1: null }));
    expect(reclaims.has(A)).toBe(true);
    reclaims.take(sample(3, { g0: 0, g1: 0 }));
    expect(reclaims.has(A)).toBe(false);
  });

  it('quarantines its GPU once the proof has failed, until the memory is back (law 8)', () => {
    const { reclaims } = unloading();
    reclaims.gone(A);
    expect(reclaims.quarantine('g0')).toBeNull();
    reclaims.fail(A);
    expect(reclaims.quarantine('g0')).toContain('10500 MB of model/a did not come back');
    expect(reclaims.quarantine('g1')).toBeNull();
    reclaims.take(sample(1_500, { g0: 11_300 }, [runner(10_500)]));
    expect(reclaims.quarantine('g0')).not.toBeNull();
    reclaims.take(sample(1_600, { g0: 800 }));
    expect(reclaims.quarantine('g0')).toBeNull();
    expect(reclaims.proof(A)).not.toBeNull();
  });

  /** Five samples, a second apart, until `now`. */
  const takeUntil = ({ clock, reclaims }: ReturnType<typeof unloading>, now: number, used: (number | null)[]) => {
    used.forEach((mb, at) => {
      clock.now = now + (at + 1 - used.length) * 1_000;
      reclaims.take(sample(clock.now, { g0: mb }, [runner(10_500)]));
    });
  };

  it('counts as foreign, without a proof, when it has long not come back and nothing moves any more', () => {
    const one = unloading();
    const { reclaims } = one;
    reclaims.gone(A);
    reclaims.fail(A);
    takeUntil(one, 31_000, [11_300, 11_300, 11_310, 11_300, 11_300]);
    expect(reclaims.has(A)).toBe(true);
    takeUntil(one, 31_001, [11_300]);
    expect([reclaims.has(A), reclaims.quarantine('g0'), reclaims.proof(A)]).toEqual([false, null, null]);
  });

  it.each([
    ['is still coming back', [11_300, 11_200, 11_100, 11_000, 10_900]],
    ['cannot be read', [11_300, 11_300, null, 11_300, 11_300]],
  ])('does not count as foreign while it %s', (_, used) => {
    const one = unloading();
    one.reclaims.gone(A);
    one.reclaims.fail(A);
    takeUntil(one, 60_000, used);
    expect(one.reclaims.quarantine('g0')).not.toBeNull();
    takeUntil(one, 70_000, [10_900, 10_900, 10_900, 10_900, 10_900]);
    expect(one.reclaims.quarantine('g0')).toBeNull();
  });

  it('is in quarantine in the end, though nobody waits for its proof (law 8)', () => {
    const one = unloading();
    one.reclaims.gone(A, 10_000);
    takeUntil(one, 5_000, [11_300, 11_200, 11_300, 11_200, 11_300]);
    expect(one.reclaims.quarantine('g0')).toBeNull();
    takeUntil(one, 20_000, [11_300, 11_200, 11_300, 11_200, 11_300]);
    expect(one.reclaims.quarantine('g0')).toBe('10500 MB of model/a did not come back after it was unloaded');
  });

  it('is in quarantine for as long as its tenant does not go, whatever the samples show', () => {
    const one = unloading();
    const { reclaims, clock } = one;
    reclaims.fail(A);
    expect(reclaims.isStuck(A)).toBe(true);
    expect(reclaims.quarantine('g0')).toBe('model/a was to end and is still there, with 10500 MB');
    expect(reclaims.unproven(A)).toEqual([{ device: 'g0', mb: 10_500 }]);
    takeUntil(one, 600_000, [11_300, 11_300, 11_300, 11_300, 11_300]);
    reclaims.take(sample(600_001, { g0: 800 }));
    expect([reclaims.isStuck(A), reclaims.proof(A)]).toEqual([true, null]);
    reclaims.gone(A);
    expect(reclaims.quarantine('g0')).toContain('did not come back');
    clock.now += 1;
    reclaims.take(sample(clock.now, { g0: 800 }));
    expect([reclaims.quarantine('g0'), reclaims.proof(A)]).toEqual([null, 'used memory dropped by 10500 MB']);
  });

  it('is in quarantine without a gap when its end is asked for anew', () => {
    const { reclaims } = unloading();
    const before = { holdings: [{ device: 'g0', mb: 9_000 }], ownPids: [], pidsOfOthers: [], measured: true };
    reclaims.fail(A);
    reclaims.beginAnew(A, { ...before, sample: sample(1_500, { g0: 9_800 }) });
    expect(reclaims.quarantine('g0')).toContain('with 9000 MB');
    // One that went, and has come again since, is not that one.
    reclaims.gone(A);
    reclaims.beginAnew(A, { ...before, sample: sample(1_600, { g0: 9_800 }) });
    expect(reclaims.quarantine('g0')).toBeNull();
  });

  it('is awaited no more once the tenant is there again', () => {
    const { reclaims } = unloading();
    reclaims.gone(A);
    reclaims.cancel(A);
    expect([reclaims.has(A), reclaims.unproven(A), reclaims.proof(A)]).toEqual([false, [], null]);
  });

  it('keeps its first picture when an attempt is repeated', () => {
    const { reclaims } = unloading();
    reclaims.gone(A);
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 10_500 }], sample: sample(1_500, { g0: 800 }) });
    reclaims.take(sample(1_600, { g0: 800 }));
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
  });

  it('has nothing to prove where nothing was held, or nothing is measured (P9), and says so', () => {
    const reclaims = new Reclaims(() => 0);
    begin(reclaims, A, { holdings: [{ device: 'cpu', mb: 10_500 }], sample: sample(0, {}) });
    expect([reclaims.has(A), reclaims.proof(A)]).toEqual([false, 'it held nothing on a GPU']);
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 10_500 }], sample: sample(0, { g0: null }), measured: false });
    reclaims.fail(A);
    expect([reclaims.proof(A), reclaims.quarantine('g0') !== null, reclaims.stored(A)]).toEqual([null, true, []]);
    reclaims.gone(A);
    expect([reclaims.has(A), reclaims.proof(A)]).toEqual([false, 'not measured: there is no reading of used memory']);
  });

  it('counts to each what it gave back itself, where two end side by side', () => {
    const { reclaims } = unloading();
    const other = (usedMb: number): GpuProcess => ({ uuid: 'g0', pid: 600, name: 'comfyui', usedMb });
    // A list that comes late shows both for a while.
    const late = [runner(10_500), other(4_096)];
    const before = sample(950, { g0: 15_396 }, late);
    reclaims.cancel(A);
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 10_500 }], ownPids: [RUNNER], sample: before });
    begin(reclaims, 'service/b', { holdings: [{ device: 'g0', mb: 4_096 }], ownPids: [600], sample: before });
    reclaims.gone(A);
    reclaims.gone('service/b');
    reclaims.take(sample(1_100, { g0: 800 }, [runner(10_500)]));
    expect(reclaims.proof('service/b')).toBe('used memory dropped by 4096 MB');
    expect(reclaims.proof(A)).toBeNull();
    reclaims.take(sample(1_200, { g0: 800 }));
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
  });

  it('counts what another one gave back before this one began to nobody twice', () => {
    const reclaims = new Reclaims(() => 0);
    const hidden = (takenAt: number, usedMb: number) => sample(takenAt, { g0: usedMb });
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 8_000 }], sample: hidden(0, 12_800) });
    reclaims.gone(A);
    begin(reclaims, 'service/b', { holdings: [{ device: 'g0', mb: 4_000 }], sample: hidden(1, 4_800) });
    reclaims.gone('service/b');
    for (const takenAt of [2, 3, 4, 5]) reclaims.take(hidden(takenAt, 800));
    expect(reclaims.proof(A)).toBe('used memory dropped by 8000 MB');
    expect(reclaims.proof('service/b')).toBe('used memory dropped by 4000 MB');
  });

  it('waits for no memory of one that is there again', () => {
    const reclaims = new Reclaims(() => 0);
    const hidden = (takenAt: number, usedMb: number) => sample(takenAt, { g0: usedMb });
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 8_000 }], sample: hidden(0, 12_800) });
    begin(reclaims, 'service/b', { holdings: [{ device: 'g0', mb: 4_000 }], sample: hidden(0, 12_800) });
    reclaims.gone('service/b');
    for (const takenAt of [2, 3, 4, 5]) reclaims.take(hidden(takenAt, 8_800));
    expect(reclaims.has('service/b')).toBe(true);
    reclaims.cancel(A);
    reclaims.take(hidden(6, 8_800));
    expect(reclaims.proof('service/b')).toBe('used memory dropped by 4000 MB');
  });
});

describe('a process that has ended and is listed still', () => {
  const WINDOW = 300;

  it('does not hold its own proof up', () => {
    const alive = new Set([RUNNER]);
    const table = createProcessTable((pid) => alive.has(pid));
    const reclaims = new Reclaims(() => 0);
    table.see(runner(10_500), 0);
    begin(reclaims, A, {
      holdings: [{ device: 'g0', mb: 10_500 }],
      ownPids: [RUNNER],
      sample: sample(0, { g0: 11_300 }, table.list(0, WINDOW) ?? []),
    });
    reclaims.gone(A);
    alive.delete(RUNNER);
    reclaims.take(sample(50, { g0: 800 }, table.list(50, WINDOW) ?? []));
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
  });

  it('is no stranger that grows, when its memory stays: a child of it has the GPU open', () => {
    const stranger: GpuProcess = { uuid: 'g0', pid: 9, name: 'python', usedMb: 10_000 };
    const alive = new Set([RUNNER, stranger.pid]);
    const table = createProcessTable((pid) => alive.has(pid));
    const clock = { now: 0 };
    const reclaims = new Reclaims(() => clock.now);
    const usedMb = 21_300;
    const look = (isListed: boolean): GpuSample => {
      table.see(stranger, clock.now);
      if (isListed) table.see(runner(10_500), clock.now);
      return sample(clock.now, { g0: usedMb }, table.list(clock.now, WINDOW) ?? []);
    };
    look(true);
    alive.delete(stranger.pid);
    clock.now = 500;
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 10_500 }], ownPids: [RUNNER], sample: look(true) });
    alive.delete(RUNNER);
    reclaims.gone(A);
    // All that was used is used still.
    for (clock.now = 600; clock.now < 4_000; clock.now += 100) reclaims.take(look(false));
    expect(reclaims.proof(A)).toBeNull();
  });

  it('gives its memory back once, also when it is listed after that: to its own proof', () => {
    const reclaims = new Reclaims(() => 0);
    const other: GpuProcess = { uuid: 'g0', pid: 600, name: 'python', usedMb: 8_000 };
    const before = sample(0, { g0: 19_300 }, [runner(10_500), other]);
    begin(reclaims, A, { holdings: [{ device: 'g0', mb: 10_500 }], ownPids: [RUNNER], sample: before });
    begin(reclaims, 'service/b', { holdings: [{ device: 'g0', mb: 8_000 }], ownPids: [600], sample: before });
    reclaims.gone(A);
    reclaims.gone('service/b');
    const late: GpuProcess = { ...runner(10_500), ended: true };
    for (const takenAt of [100, 200, 300, 400]) reclaims.take(sample(takenAt, { g0: 8_800 }, [late, other]));
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
    const both: GpuProcess[] = [late, { ...other, ended: true }];
    for (let takenAt = 500; takenAt < 1_000; takenAt += 100) reclaims.take(sample(takenAt, { g0: 8_800 }, both));
    expect(reclaims.proof('service/b')).toBeNull();
  });

  it('has given its memory back before the next one begins, though it is listed still', () => {
    const reclaims = new Reclaims(() => 0);
    const other: GpuProcess = { uuid: 'g0', pid: 600, name: 'python', usedMb: 8_000 };
    const late: GpuProcess = { ...runner(10_500), ended: true };
    // The desktop has 12,000 MB more than the list shows: that it claims too much is not seen by its sum.
    begin(reclaims, A, {
      holdings: [{ device: 'g0', mb: 10_500 }],
      ownPids: [RUNNER],
      sample: sample(0, { g0: 30_500 }, [runner(10_500), other]),
    });
    reclaims.gone(A);
    const next = sample(100, { g0: 20_000 }, [late, other]);
    reclaims.take(next);
    expect(reclaims.proof(A)).toBe('used memory dropped by 10500 MB');
    begin(reclaims, 'service/b', { holdings: [{ device: 'g0', mb: 8_000 }], ownPids: [600], sample: next });
    reclaims.gone('service/b');
    reclaims.take(sample(200, { g0: 12_000 }));
    expect(reclaims.proof('service/b')).toBe('used memory dropped by 8000 MB');
  });
});
