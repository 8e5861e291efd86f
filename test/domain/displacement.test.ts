import { describe, expect, it } from 'vitest';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import { afterDisplacement, lacksOfMode } from '../../src/domain/displacement.js';
import { outcome } from '../activities/calls.js';
import { on, tenant } from './planner/hosts.js';

const VLM = 'model/vlm';
const request = { id: 'x', mb: 20_000, gpu: null, priority: 50, holder: 'python', ttlSeconds: 60, pid: null };
const LEASE: OperationGoal = { kind: 'lease', tenant: 'reservation/x', request };
const START: OperationGoal = { kind: 'service', tenant: 'service/comfyui', verb: 'start' };
const RECORDING = { wishes: { [VLM]: { place: 'gpu' as const } } };

const pushingOut = (goal: OperationGoal, change: Partial<OperationOutcome> = {}) =>
  outcome({ goal, displaced: [VLM], residency: { [VLM]: [] }, ...change });
const lacks = (displaced: Record<string, string>, vlm = tenant(VLM)) =>
  lacksOfMode('recording', RECORDING, displaced, [vlm]);

describe('a tenant that was pushed out', () => {
  it.each([
    [LEASE, 'lease x (python)'],
    [START, 'start comfyui'],
    [{ kind: 'phase', phase: '3' } as const, 'phase 3'],
  ])('is known with what pushed it out: %j', (goal, by) => {
    expect(afterDisplacement({}, pushingOut(goal))).toEqual({ [VLM]: by });
    expect(lacks({ [VLM]: by })).toEqual([
      `mode recording wants ${VLM}, displaced by ${by}; \`vramflow mode recording\` brings it back`,
    ]);
  });

  it('stays known while other operations pass, until it is back', () => {
    const known = { [VLM]: 'start comfyui' };
    const stopped = outcome({ goal: { ...START, verb: 'stop' }, residency: { [VLM]: [] } });
    expect(afterDisplacement(known, stopped)).toEqual(known);
    expect(afterDisplacement(known, outcome({ goal: START, residency: null }))).toEqual(known);
    const back = outcome({ goal: { kind: 'reconcile', reason: 'room' }, residency: { [VLM]: ['g0'] } });
    expect(afterDisplacement(known, back)).toEqual({});
  });

  it('is forgotten with a mode that was reached, and when a person or idle unload takes it away', () => {
    const known = { [VLM]: 'start comfyui' };
    expect(afterDisplacement(known, outcome({ residency: { [VLM]: [] } }))).toEqual({});
    expect(afterDisplacement(known, outcome({ status: 'failed', residency: { [VLM]: [] } }))).toEqual(known);
    for (const goal of [
      { kind: 'idle-unload', tenant: VLM },
      { kind: 'model', tenant: VLM, verb: 'unload', demand: false },
    ] as const) {
      expect(afterDisplacement(known, pushingOut(goal))).toEqual({});
    }
  });

  it('was not pushed out when it was put back', () => {
    expect(afterDisplacement({}, pushingOut(LEASE, { status: 'failed', residency: { [VLM]: ['g0'] } }))).toEqual({});
  });
});

describe('what a mode lacks', () => {
  it('is what went with the service that it was inside, too', () => {
    const displaced = { 'service/ollama': 'phase 3' };
    expect(lacks(displaced, tenant(VLM, { inside: 'service/ollama' }))).toHaveLength(1);
    expect(lacks(displaced, tenant(VLM))).toEqual([]);
  });

  it('is nothing while it is there or comes, or where the mode does not require it', () => {
    const displaced = { [VLM]: 'phase 3' };
    expect(lacks(displaced, tenant(VLM, on(4_000)))).toEqual([]);
    expect(lacks(displaced, tenant(VLM, { state: 'loading' }))).toEqual([]);
    expect(lacks({})).toEqual([]);
    for (const mode of [undefined, { wishes: { [VLM]: { place: 'absent' as const } } }]) {
      expect(lacksOfMode('idle', mode, displaced, [tenant(VLM)])).toEqual([]);
    }
  });
});
