import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HostPolicy } from '../../src/contracts/policy.js';
import type { DeviceObservation } from '../../src/contracts/residency.js';
import { canFit } from '../../src/domain/canFit.js';

const policy: HostPolicy = {
  host: 'h',
  maxLoadRetries: 3,
  reserveMb: 100,
  vlmModel: 'v:1',
  models: [],
  embedder: { model: 'm', declaredMb: 500, priority: 40, minFreeMb: 1024, moveTimeoutSeconds: 30 },
  services: [],
  phases: [],
  modes: {},
  vramEventThresholdMb: 100,
  degradedRetrySeconds: 30,
  reconcileSeconds: 300,
};

const gpu = (id: string, usedMb: number | null, more: Partial<DeviceObservation> = {}): DeviceObservation => ({
  id,
  name: 'GPU',
  totalMb: 10_000,
  usedMb,
  foreignMb: usedMb,
  utilizationPercent: 0,
  temperatureC: 40,
  sampleAgeMs: 10,
  health: 'ok',
  problem: null,
  quarantine: null,
  reclaimingMb: 0,
  source: 'measured',
  ...more,
});

const host = (...devices: DeviceObservation[]) => ({
  host: 'h',
  at: '2026-01-01T00:00:00.000Z',
  devices,
  tenants: [],
  drivers: [],
  simulated: false,
});

describe('can_fit (P1)', () => {
  it('counts one GPU whole, less the reserve', () => {
    const observed = host(gpu('GPU-a', 4_000), gpu('GPU-b', 7_000));
    expect(canFit(observed, 5_900, policy)).toEqual({ fits: true, freeMb: { 'GPU-a': 5_900, 'GPU-b': 2_900 } });
    expect(canFit(observed, 5_901, policy).fits).toBe(false);
  });

  it('takes unknown, lost, quarantined and stale for full (law 1)', () => {
    const odd = [
      gpu('GPU-a', null),
      gpu('GPU-a', 0, { health: 'lost' }),
      gpu('GPU-a', 0, { quarantine: 'held' }),
      gpu('GPU-a', 0, { sampleAgeMs: 6_000 }),
    ];
    for (const device of odd)
      expect(canFit(host(device), 1, policy)).toEqual({ fits: false, freeMb: { 'GPU-a': null } });
  });

  it('never promises more than is free', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 10_000 }), fc.integer({ min: 0, max: 12_000 }), (used, mb) => {
        expect(canFit(host(gpu('GPU-a', used)), mb, policy).fits).toBe(mb <= Math.max(0, 10_000 - used - 100));
      }),
    );
  });
});
