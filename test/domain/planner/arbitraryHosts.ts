/** Hosts with 0–8 GPUs and up to 12 tenants in all states, and what may be wanted of them. */
import * as fc from 'fast-check';
import { CPU, EMBEDDER, isService } from '../../../src/contracts/names.js';
import type {
  DeviceObservation,
  DriverObservation,
  HostObservation,
  Target,
  TenantObservation,
  Wish,
} from '../../../src/contracts/residency.js';
import { clip, drivers, gpu, tenant } from './hosts.js';

export interface Case {
  observed: HostObservation;
  target: Target;
  reserveMb: number;
}

interface Limits {
  maxGpus: number;
  minGpus: number;
  maxTenants: number;
  /** Readings, drivers and states that are not as they should be. */
  troubles: boolean;
}

const rarely = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
  fc.oneof(
    { weight: 20, arbitrary: fc.constant(usual) },
    ...others.map((o) => ({ weight: 1, arbitrary: fc.constant(o) })),
  );

function gpuArbitrary(index: number, troubles: boolean): fc.Arbitrary<DeviceObservation> {
  return fc
    .record({
      totalMb: troubles ? rarely<number | null>(24564, 6144, 12288, 49140, null) : fc.constantFrom(6144, 12288, 24564),
      foreignMb: fc.constantFrom(0, 300, 800, 5000),
      unexplainedMb: rarely(0, 400),
      reclaimingMb: rarely(0, 3000),
      sampleAgeMs: troubles ? rarely(100, 4999, 5001) : fc.constant(100),
      health: troubles ? rarely<DeviceObservation['health']>('ok', 'unknown', 'lost') : fc.constant('ok' as const),
      quarantine: troubles ? rarely<string | null>(null, 'does not give memory back') : fc.constant(null),
      readable: troubles ? rarely(true, false) : fc.constant(true),
    })
    .map(({ unexplainedMb, readable, ...change }) =>
      gpu({
        ...change,
        id: `GPU-${index}`,
        usedMb: readable ? change.foreignMb + change.reclaimingMb + unexplainedMb : null,
        foreignMb: readable ? change.foreignMb : null,
      }),
    );
}

function tenantArbitrary(id: string, gpuIds: string[], troubles: boolean): fc.Arbitrary<TenantObservation> {
  const places = [...gpuIds, CPU];
  return fc
    .record({
      state: fc.oneof(
        { weight: id === EMBEDDER ? 1 : 8, arbitrary: fc.constant<TenantObservation['state']>('absent') },
        {
          weight: 10,
          arbitrary: troubles
            ? rarely<TenantObservation['state']>(
                'resident',
                'loading',
                'unloading',
                'error',
                'unknown',
                ...(isService(id) ? (['unhealthy'] as const) : []),
              )
            : fc.constant<TenantObservation['state']>('resident'),
        },
      ),
      places: fc.oneof(
        { weight: 6, arbitrary: fc.constantFrom(...places).map((place) => [place]) },
        { weight: 1, arbitrary: fc.uniqueArray(fc.constantFrom(...places), { maxLength: 3 }) },
      ),
      chargeMb:
        id === EMBEDDER
          ? fc.constantFrom(300, 500, 2000)
          : rarely(4000, 300, 2000, 7000, 7000, 7000, 10752, 10752, 30000),
      shareHeld: fc.constantFrom(0.5, 0.9, 1, 1, 1),
      overheadMb: rarely(0, 200, 1500),
      uses: rarely(0, 2),
      loadMs: fc.constantFrom(0, 2000, 2000, 8000, 20_000),
      proven: rarely(true, false),
      pinned: rarely(false, true),
      priority: fc.constantFrom(10, 40, 50, 100),
      allowCpu: troubles ? rarely(false, true) : fc.constant(false),
      given: fc.oneof({ weight: 3, arbitrary: fc.constant<string[]>([]) }, fc.subarray(gpuIds)),
    })
    .map(({ places, shareHeld, overheadMb, given, ...change }) => {
      const holds =
        change.state === 'absent' ? [] : change.state === 'resident' && places.length === 0 ? [CPU] : places;
      const embedder = id === EMBEDDER;
      const one = embedder || isService(id) ? holds.slice(0, 1) : holds;
      const mb = Math.ceil((change.chargeMb * shareHeld) / Math.max(1, one.length));
      const holdings = one.map((device) => ({ device, mb }));
      const peakMb = change.chargeMb + overheadMb;
      const idle = change.state === 'resident' ? { idleForMs: 60_000, residentForMs: 90_000 } : {};
      const all = { ...change, ...idle, holdings, peakMb };
      if (isService(id)) {
        return tenant(id, {
          ...all,
          kind: 'service',
          driver: 'native',
          allowCpu: false,
          proven: true,
          uses: 0,
          peakMb: change.chargeMb,
          ...(given.length > 0 ? { givenGpus: given } : {}),
        });
      }
      return embedder ? clip(all) : tenant(id, all);
    });
}

const driversArbitrary = (troubles: boolean): fc.Arbitrary<DriverObservation[]> =>
  troubles
    ? fc
        .record({
          available: rarely(true, false),
          placement: rarely<DriverObservation['placement']>('observed', 'chosen'),
        })
        .map((change) => drivers(change))
    : fc.constant(drivers());

const wishArbitrary = (ids: string[]): fc.Arbitrary<Wish> => {
  const plain = (place: 'gpu' | 'absent' | 'cpu'): fc.Arbitrary<Wish> => fc.constant({ place });
  const ifRoom = fc
    .record({
      minFreeMb: fc.constantFrom(0, 1024, 4000),
      notBeside: fc.subarray(ids, { maxLength: Math.min(2, ids.length) }),
    })
    .map((wish): Wish => ({ place: 'gpu-if-room', ...wish }));
  return fc.oneof(
    { weight: 4, arbitrary: plain('gpu') },
    { weight: 2, arbitrary: plain('absent') },
    { weight: 1, arbitrary: plain('cpu') },
    { weight: 3, arbitrary: ifRoom },
  );
};

export function caseArbitrary(change: Partial<Limits> = {}): fc.Arbitrary<Case> {
  const limits: Limits = { minGpus: 0, maxGpus: 8, maxTenants: 12, troubles: true, ...change };
  return fc
    .record({
      gpus: fc.oneof(
        fc.constant(Math.min(limits.maxGpus, Math.max(limits.minGpus, 1))),
        fc.integer({ min: limits.minGpus, max: limits.maxGpus }),
      ),
      tenants: fc.oneof(fc.integer({ min: 1, max: limits.maxTenants }), fc.constant(limits.maxTenants)),
    })
    .chain(({ gpus, tenants }) => {
      const gpuIds = Array.from({ length: gpus }, (_, index) => `GPU-${index}`);
      // Every third is a service.
      const ids = [
        EMBEDDER,
        ...Array.from({ length: tenants - 1 }, (_, index) => `${index % 3 === 2 ? 'service' : 'model'}/t${index}`),
      ];
      return fc.record({
        devices: fc.tuple(...gpuIds.map((_, index) => gpuArbitrary(index, limits.troubles))),
        tenants: fc.tuple(...ids.map((id) => tenantArbitrary(id, gpuIds, limits.troubles))),
        leftMb: fc.constantFrom(null, 100, 1200, 3000),
        drivers: driversArbitrary(limits.troubles),
        wished: fc.subarray(ids, { minLength: 1, maxLength: Math.min(3, ids.length) }),
        wishes: fc.array(wishArbitrary(ids), { minLength: 4, maxLength: 4 }),
        priority: fc.constantFrom(0, 10, 50, 100),
        reserveMb: fc.constantFrom(0, 512, 1500),
        asked: fc.boolean(),
      });
    })
    .map(({ devices, tenants, drivers, wished, wishes, priority, reserveMb, asked, leftMb }) => {
      const target: Target = {
        wishes: Object.fromEntries(
          wished.map((id, index) => [id, notBesideItself(id, wishes[index] ?? { place: 'gpu' })]),
        ),
        because: 'a property',
        priority,
        ...(asked && wished[0] !== undefined ? { asked: wished[0] } : {}),
      };
      return { observed: withUse(devices, tenants, drivers, leftMb), target, reserveMb };
    });
}

const notBesideItself = (id: string, wish: Wish): Wish =>
  wish.place === 'gpu-if-room' ? { ...wish, notBeside: wish.notBeside.filter((other) => other !== id) } : wish;

/** @param leftMb - so much is free on each GPU, which makes a host where room must be made; null: as it comes */
function withUse(
  devices: DeviceObservation[],
  tenants: TenantObservation[],
  drivers: DriverObservation[],
  leftMb: number | null,
): HostObservation {
  const held = (id: string): number =>
    tenants.flatMap((t) => t.holdings).reduce((mb, holding) => mb + (holding.device === id ? holding.mb : 0), 0);
  return {
    host: 'any',
    at: '2025-01-01T00:00:00.000Z',
    devices: devices.map((d) => {
      const usedMb = d.usedMb === null ? null : d.usedMb + held(d.id);
      const totalMb = leftMb === null || usedMb === null || d.totalMb === null ? d.totalMb : usedMb + leftMb;
      return { ...d, usedMb, totalMb };
    }),
    tenants,
    drivers,
    simulated: false,
  };
}
