import { describe, expect, it } from 'vitest';
import { toComeBack } from '../../src/domain/toComeBack.js';

const service = { on: ['g0'], chargeMb: 4_096, ownPids: [7, 8] };
const listed = (pid: number, usedMb: number | null, uuid = 'g0') => ({ uuid, pid, usedMb });

describe('what the end of a service has to give back', () => {
  it('is what the list shows for its processes, and for no others', () => {
    const list = [listed(7, 1_000), listed(8, 500), listed(50, 9_000), listed(8, 250, 'g1')];
    expect(toComeBack(service, list)).toEqual([
      { device: 'g0', mb: 1_500, atMost: false },
      { device: 'g1', mb: 250, atMost: false },
    ]);
  });

  it('is nothing where the list is known and shows none of them', () => {
    expect(toComeBack(service, [listed(50, 9_000)])).toEqual([]);
  });

  it('is at most its charge where there is no list (law 1)', () => {
    expect(toComeBack(service, null)).toEqual([{ device: 'g0', mb: 4_096, atMost: true }]);
    expect(toComeBack({ ...service, on: ['g0', 'g1'] }, null)).toEqual([
      { device: 'g0', mb: 2_048, atMost: true },
      { device: 'g1', mb: 2_048, atMost: true },
    ]);
  });

  it('is at most its charge where a figure is [N/A], and never less than what is shown', () => {
    expect(toComeBack(service, [listed(7, null)])).toEqual([{ device: 'g0', mb: 4_096, atMost: true }]);
    expect(toComeBack(service, [listed(7, null), listed(8, 6_000)])).toEqual([
      { device: 'g0', mb: 6_000, atMost: true },
    ]);
  });

  it('is nothing for one that was put on no GPU', () => {
    expect(toComeBack({ on: [], chargeMb: 0, ownPids: [7] }, null)).toEqual([]);
  });
});
