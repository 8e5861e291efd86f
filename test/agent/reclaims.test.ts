import { describe, expect, it } from 'vitest';
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

  it('counts as foreign, without a proof, when it has long not come back', () => {
    const { reclaims, clock } = unloading();
    reclaims.gone(A);
    reclaims.fail(A);
    clock.now = 31_001;
    reclaims.take(sample(31_000, { g0: 11_300 }, [runner(10_500)]));
    expect(reclaims.has(A)).toBe(false);
    expect(reclaims.proof(A)).toBeNull();
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
