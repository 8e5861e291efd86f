/** Where a service is counted, and where it can come to, when its container was given its GPUs by others. */
import { describe, expect, it } from 'vitest';
import type { GpuProcess, GpuReading } from '../../src/adapters/gpu/reader.js';
import type { ServiceSight } from '../../src/adapters/services/driver.js';
import { observeServices, type ServiceParts } from '../../src/agent/observeServices.js';
import type { ServicePolicy } from '../../src/contracts/policy.js';
import { policy } from '../domain/planner/hosts.js';

const gpu = (index: number): GpuReading => ({
  uuid: `GPU-${index}${index}`,
  index,
  name: 'Test GPU',
  totalMb: 24_576,
  usedMb: 1_000 * (3 - index),
  freeMb: 20_000,
  utilizationPercent: 0,
  temperatureC: 40,
  health: 'ok',
  problem: null,
});

const TTS: ServicePolicy = {
  name: 'tts',
  driver: 'docker',
  declaredMb: 4_000,
  priority: 50,
  pinned: false,
  startTimeoutSeconds: 120,
  stopTimeoutSeconds: 30,
};

function observe(
  given: ServiceSight['given'],
  more: { gpus?: GpuReading[]; processes?: GpuProcess[]; state?: ServiceSight['state'] } = {},
) {
  const { gpus = [gpu(0), gpu(1), gpu(2)], processes = [], state = 'running' } = more;
  const sight: ServiceSight = {
    service: 'tts',
    state,
    run: state === 'running' ? 'a' : null,
    pids: state === 'running' ? [7] : [],
    ...(given === undefined ? {} : { given }),
    runningForMs: null,
    lastExit: null,
  };
  const parts = {
    policy: policy({ services: [TTS] }),
    simulated: false,
    measured: true,
    sample: { takenAt: 0, gpus, processes, problem: null },
    services: [
      { name: 'tts', sight, health: { state: 'ready', detail: null, sinceMs: 0 }, gpus: ['GPU-00'], heldBack: null },
    ],
    models: [],
    reclaims: { unproven: () => [] },
    learned: { mostMb: () => 0, get: () => ({}), times: () => ({}) },
    working: new Map(),
    errors: new Map(),
  } as unknown as ServiceParts;
  const [tenant] = observeServices(parts);
  return { given: tenant?.givenGpus, holdings: tenant?.holdings };
}

const zero = (...uuids: string[]) => uuids.map((device) => ({ device, mb: 0 }));

describe('a service whose container others made', () => {
  it.each<[string, ServiceSight['given'], string[] | undefined]>([
    ['by index', ['1'], ['GPU-11']],
    ['by UUID, or its beginning', ['GPU-22', 'GPU-0'], ['GPU-00', 'GPU-22']],
    ['all', 'all', ['GPU-00', 'GPU-11', 'GPU-22']],
    ['one that is not here: any of them', ['7'], ['GPU-00', 'GPU-11', 'GPU-22']],
    ['none, for vramflow makes it', undefined, undefined],
  ])('has the GPUs that it was given: %s', (_how, given, gpus) => {
    expect(observe(given, { state: 'absent' }).given).toEqual(gpus);
  });

  it('counts on each of them until the driver lists where it is, and not where the plan thought', () => {
    expect(observe(['1', '2']).holdings).toEqual(zero('GPU-11', 'GPU-22'));
    const processes = [{ uuid: 'GPU-22', pid: 7, name: 'python', usedMb: 900 }];
    expect(observe(['1', '2'], { processes }).holdings).toEqual([{ device: 'GPU-22', mb: 900 }]);
    expect(observe(undefined).holdings).toEqual(zero('GPU-00'));
  });

  it('on a host without a GPU has none', () => {
    expect(observe('all', { gpus: [] })).toEqual({ given: undefined, holdings: [{ device: 'GPU-00', mb: 0 }] });
  });
});
