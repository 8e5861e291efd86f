import { describe, expect, it } from 'vitest';
import type { Target, TenantObservation } from '../../src/contracts/residency.js';
import { withoutArrived } from '../../src/domain/arrived.js';

const MODEL = 'model/tiny:latest';
const target: Target = {
  wishes: { [MODEL]: { place: 'gpu' }, 'embedder/clip': { place: 'cpu' } },
  because: 'mode recording',
  priority: 100,
};

const tenant = (more: Partial<TenantObservation>): TenantObservation => ({
  id: MODEL,
  kind: 'model',
  driver: 'ollama',
  state: 'resident',
  proven: true,
  holdings: [{ device: 'cpu', mb: 64 }],
  chargeMb: 64,
  chargeSource: 'declared',
  peakMb: 64,
  uses: 0,
  idleForMs: 0,
  residentForMs: 0,
  loadMs: 100,
  pinned: false,
  priority: 50,
  allowCpu: true,
  configured: true,
  ...more,
});

const host = (one: TenantObservation) => ({
  host: 'h',
  at: '',
  devices: [],
  tenants: [one],
  drivers: [],
  simulated: false,
});

describe('a model that was loaded for a target', () => {
  it('is where it belongs once its driver has put it somewhere, if it may run from system memory', () => {
    expect(Object.keys(withoutArrived(target, [MODEL], host(tenant({}))).wishes)).toEqual(['embedder/clip']);
  });

  it.each([
    ['was not loaded for it', [], {}],
    ['has left again', [MODEL], { state: 'absent', holdings: [] }],
    ['must be on a GPU', [MODEL], { allowCpu: false }],
  ] as [string, string[], Partial<TenantObservation>][])('is still wanted where it %s', (_case, loaded, more) => {
    expect(withoutArrived(target, loaded, host(tenant(more)))).toEqual(target);
  });

  it('still leaves where it is to be absent', () => {
    const away: Target = { ...target, wishes: { [MODEL]: { place: 'absent' } } };
    expect(withoutArrived(away, [MODEL], host(tenant({}))).wishes).toEqual(away.wishes);
  });
});
