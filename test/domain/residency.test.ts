import { describe, expect, it } from 'vitest';
import { CPU, EMBEDDER } from '../../src/contracts/names.js';
import { describeHost } from '../../src/domain/describeHost.js';
import { planResidency } from '../../src/domain/planResidency.js';
import { embedderDevice, formerResidency, goneSince, residencyOf } from '../../src/domain/residency.js';
import { noTurns, reduceTurns } from '../../src/domain/turns.js';
import { clip, GPU, host, intents, inWords, on, planOf, policy, tenant, VLM, vlm } from './planner/hosts.js';

const both = host([vlm(on(10_752)), clip({ holdings: [{ device: GPU, mb: 500 }] })]);

describe('a residency', () => {
  it('says where each tenant is, in one order', () => {
    expect(residencyOf(both)).toEqual({ [EMBEDDER]: [GPU], [VLM]: [GPU] });
    const split = vlm({
      state: 'resident',
      holdings: [
        { device: CPU, mb: 1 },
        { device: GPU, mb: 2 },
      ],
    });
    expect(residencyOf(host([split]))[VLM]).toEqual([GPU, CPU]);
    expect(residencyOf(host([vlm()]))[VLM]).toEqual([]);
  });

  it('has the embedder on one of two devices, always (M10)', () => {
    expect(embedderDevice(both)).toBe('cuda');
    expect(embedderDevice(host([clip()]))).toBe('cpu');
    expect(embedderDevice(host([]))).toBe('cpu');
  });

  it('is put back for what was touched only', () => {
    expect(formerResidency(both, [EMBEDDER], both).wishes).toEqual({ [EMBEDDER]: { place: 'gpu' } });
    const neither = host([vlm(), clip()]);
    expect(formerResidency(neither, [VLM, EMBEDDER], both).wishes).toEqual({
      [VLM]: { place: 'absent' },
      [EMBEDDER]: { place: 'cpu' },
    });
    const onCpu = vlm({ state: 'resident', holdings: [{ device: CPU, mb: 10_000 }] });
    expect(formerResidency(host([onCpu]), [VLM], both).wishes).toEqual({ [VLM]: { place: 'cpu' } });
  });

  it('is put back without what nobody knows any more: a lease that ended, a model that the configuration does not name', () => {
    const stranger = tenant('model/stranger', { ...on(4_000), configured: false });
    const lease = tenant('reservation/train', { kind: 'reservation', driver: 'leases', ...on(3_000) });
    const former = host([vlm(on(10_752)), stranger, lease]);
    const touched = [VLM, stranger.id, lease.id];
    const now = host([vlm()]);
    const plan = planResidency(now, formerResidency(former, touched, now), policy());
    expect(inWords(planOf(plan))).toEqual([`s1 load ${VLM}`]);
    expect(goneSince(former, touched, now)).toEqual([stranger.id, lease.id]);
    expect(goneSince(former, touched, former)).toEqual([]);
  });
});

describe('a host in words', () => {
  it('names mode, trouble, wishes, holder and queue', () => {
    const request = (name: string) => ({
      kind: 'request' as const,
      request: {
        operation: { workflowId: name, runId: name },
        devices: 'all' as const,
        goal: { kind: 'mode' as const, mode: name },
        requestedBy: 'cli',
        priority: 50,
      },
    });
    const devices = { kind: 'devices' as const, devices: ['cpu'], highest: {} };
    const events = [devices, request('recording'), request('autopilot')];
    const turns = events.reduce((state, event) => reduceTurns(state, event, 0).turns, noTurns());
    const wants = intents({ wanted: [VLM], displaced: [{ tenant: VLM, by: 'model/b' }], degradedReason: 'away' });
    const text = describeHost(wants, turns);
    for (const part of [
      'idle',
      'away',
      VLM,
      'until model/b ends',
      'mode recording',
      'asked by cli',
      '**Waits:** mode autopilot',
    ]) {
      expect(text).toContain(part);
    }
    expect(describeHost(intents(), noTurns())).toContain('Nobody holds a turn');
    const ended = { at: '2026-01-01T00:00:00.000Z', workflowId: 'mode/h/1', what: 'done: mode recording' };
    expect(describeHost(intents(), noTurns(), [ended])).toContain(
      '- 2026-01-01T00:00:00.000Z done: mode recording (mode/h/1)',
    );
  });
});
