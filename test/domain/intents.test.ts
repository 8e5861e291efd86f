import { describe, expect, it } from 'vitest';
import type {
  AgentView,
  Intents,
  OperationGoal,
  OperationOutcome,
  StepOutcome,
} from '../../src/contracts/operation.js';
import { afterEdge, afterOperation, intentsAtFirst, noIntents } from '../../src/domain/intents.js';
import { resolveTarget } from '../../src/domain/resolveTarget.js';
import { host, intents, on, policy, tenant } from './planner/hosts.js';

const A = 'model/a';
const B = 'model/b';
const RECORDING: OperationGoal = { kind: 'mode', mode: 'recording' };
const load = (tenant: string, demand = false): OperationGoal => ({ kind: 'model', tenant, verb: 'load', demand });
const unload = (tenant: string): OperationGoal => ({ kind: 'model', tenant, verb: 'unload', demand: false });
const idle = (tenant: string): OperationGoal => ({ kind: 'idle-unload', tenant });

const step = (kind: StepOutcome['kind'], tenant: string): StepOutcome => ({
  step: 's1',
  kind,
  tenant,
  ms: 10,
  attempts: 1,
  proof: { beforeMb: {}, afterMb: {}, reclaimMs: null, by: 'a test' },
  acted: true,
});

/** @param resident what is on a GPU at the end */
const ended = (goal: OperationGoal, resident: string[], change: Partial<OperationOutcome> = {}): OperationOutcome => ({
  status: 'done',
  goal,
  summary: '',
  steps: [step('load', 'model/any')],
  failure: null,
  failedTenant: null,
  refusal: null,
  supersededBy: null,
  compensation: null,
  displaced: [],
  residency: Object.fromEntries([A, B, 'embedder/clip'].map((id) => [id, resident.includes(id) ? ['g0'] : []])),
  epochs: {},
  totalMs: 10,
  ...change,
});

const wantsA = intents({ wanted: [A] });
/** B came on demand and pushed A out. */
const displacedA: Intents = intents({ wanted: [A, B], displaced: [{ tenant: A, by: B }] });

describe('what a new host chain wants at its first look', () => {
  const [LLAVA, TINY, GONE] = ['model/llava:7b', 'model/tiny', 'model/gone'];
  /** Nothing but `tiny` is resident. */
  const view = (change: Partial<AgentView> = {}): AgentView => ({
    observation: host([tenant(LLAVA), tenant(TINY, on(4_000))]),
    policy: policy(),
    mode: 'recording',
    phase: null,
    epochs: {},
    instance: 'a',
    ...change,
  });
  const earlier = intents({
    mode: 'recording',
    embedderByHand: 'cpu',
    wanted: [LLAVA, GONE],
    displaced: [LLAVA, GONE].map((one) => ({ tenant: one, by: 'reservation/train' })),
  });

  it('is what the earlier one wanted, but for what is no longer configured, and what is resident', () => {
    expect(intentsAtFirst(earlier, view())).toEqual({
      ...earlier,
      wanted: [LLAVA, TINY],
      displaced: [{ tenant: LLAVA, by: 'reservation/train' }],
    });
    const back = intents({ mode: 'recording', wanted: [TINY], displaced: [{ tenant: TINY, by: LLAVA }] });
    expect(intentsAtFirst(back, view())).toMatchObject({ wanted: [TINY], displaced: [] });
  });

  it('is what is resident, where there was none or the disk knows of a newer mode or phase', () => {
    const fresh = { embedderByHand: null, wanted: [TINY], displaced: [] };
    expect(intentsAtFirst(noIntents(), view())).toMatchObject({ mode: 'recording', ...fresh });
    expect(intentsAtFirst(earlier, view({ mode: 'autopilot' }))).toMatchObject({ mode: 'autopilot', ...fresh });
    const ofPhase = intentsAtFirst(earlier, view({ phase: 'train' }));
    expect(ofPhase).toMatchObject({ ...fresh, phase: 'train', embedderByHand: 'cpu' });
  });
});

describe('what is wanted after an operation', () => {
  it('is idle at first', () => {
    expect(noIntents()).toMatchObject({ mode: 'idle', wanted: [], displaced: [], embedderByHand: null });
  });

  it('is what is resident, and the mode that was reached', () => {
    expect(afterOperation(intents(), ended(RECORDING, [A]))).toMatchObject({ mode: 'recording', wanted: [A] });
    expect(afterOperation(intents(), ended(RECORDING, [A], { status: 'failed' }))).toMatchObject({ mode: 'idle' });
  });

  it('is as before when nobody could look', () => {
    expect(afterOperation(wantsA, ended(RECORDING, [], { residency: null }))).toBe(wantsA);
  });

  it('is not what a person or the idle timer unloaded', () => {
    for (const goal of [unload(A), idle(A)]) expect(afterOperation(wantsA, ended(goal, [])).wanted).toEqual([]);
  });

  it('is not what was to go and holds memory still, because its proof failed', () => {
    for (const status of ['failed', 'cancelled'] as const) {
      expect(afterOperation(wantsA, ended(unload(A), [A], { status })).wanted).toEqual([]);
    }
  });

  it('is what was used again before its idle unload, and what nobody was allowed to unload', () => {
    expect(afterOperation(wantsA, ended(idle(A), [A], { steps: [] })).wanted).toEqual([A]);
    expect(afterOperation(wantsA, ended(unload(A), [A], { status: 'refused' })).wanted).toEqual([A]);
  });

  it('is also what died while another operation ran, or while its own restoring failed', () => {
    const move = ended({ kind: 'embedder', device: 'cuda' }, []);
    expect(afterOperation(wantsA, move).wanted).toEqual([A]);
    const reconcile = ended({ kind: 'reconcile', reason: 'it died' }, [], { status: 'failed', failedTenant: A });
    expect(afterOperation(wantsA, reconcile).wanted).toEqual([A]);
    expect(afterOperation(wantsA, ended(load(B), [B])).wanted).toEqual([A, B]);
  });

  it('is nothing but what is there once a mode has been reached', () => {
    expect(afterOperation(displacedA, ended(RECORDING, [B]))).toMatchObject({ wanted: [B], displaced: [] });
  });

  it('is not what a person pushed out by a load', () => {
    const outcome = ended(load(B), [B], { steps: [step('unload', A), step('load', B)] });
    expect(afterOperation(wantsA, outcome)).toMatchObject({ wanted: [B], displaced: [] });
  });
});

describe('what a demand displaces', () => {
  it('stays wanted, with the demand that it makes room for', () => {
    const outcome = ended(load(B, true), [B], { steps: [step('unload', A), step('load', B)] });
    expect(afterOperation(wantsA, outcome)).toEqual(displacedA);
    expect(afterOperation(wantsA, ended(load(B, true), [B], { displaced: [A] }))).toEqual(displacedA);
  });

  it('is not displaced when it was put back, or never went', () => {
    const failed = ended(load(B, true), [A], {
      status: 'failed',
      displaced: [A],
      steps: [step('unload', A), step('load', A)],
    });
    expect(afterOperation(wantsA, failed)).toMatchObject({ wanted: [A], displaced: [] });
    const cancelled = ended(load(B, true), [A], { status: 'cancelled', displaced: [A], steps: [] });
    const idled = afterOperation(afterOperation(wantsA, cancelled), ended(idle(A), []));
    expect(idled).toMatchObject({ wanted: [], displaced: [] });
  });

  it('is no displacement when nobody wanted it', () => {
    const outcome = ended(load(B, true), [B], { displaced: [A], steps: [step('unload', A)] });
    expect(afterOperation(intents(), outcome)).toMatchObject({ wanted: [B], displaced: [] });
  });

  it('ends with the demand, whether it came back or found no room', () => {
    for (const goal of [idle(B), unload(B)]) {
      expect(afterOperation(displacedA, ended(goal, [A]))).toMatchObject({ wanted: [A], displaced: [] });
      expect(afterOperation(displacedA, ended(goal, []))).toMatchObject({ wanted: [], displaced: [] });
    }
  });

  it('does not end when the demanded model was used again', () => {
    expect(afterOperation(displacedA, ended(idle(B), [B], { steps: [] }))).toEqual(displacedA);
  });

  it('may come back when the demanded model is pushed out by a person, or its unload fails half-way', () => {
    const pushed = ended(load('model/any'), [], { steps: [step('unload', B)] });
    expect(afterOperation(displacedA, pushed)).toMatchObject({ wanted: [A], displaced: [] });
    const failed = ended(idle(B), [B], { status: 'failed', steps: [] });
    expect(afterOperation(displacedA, failed)).toMatchObject({ wanted: [A], displaced: [] });
  });

  it('is over for what a person dismisses meanwhile', () => {
    expect(afterOperation(displacedA, ended(unload(A), [B]))).toMatchObject({ wanted: [B], displaced: [] });
  });
});

describe('what a lease displaces', () => {
  const request = { id: 'x', mb: 20_000, gpu: null, priority: 50, holder: 'python', ttlSeconds: 60, pid: null };
  const lease: OperationGoal = { kind: 'lease', tenant: 'reservation/x', request };
  const pushed = ended(lease, [], { displaced: [A], steps: [step('unload', A), step('load', 'reservation/x')] });
  const leased = afterOperation(wantsA, pushed);

  it('stays wanted, held back while the lease is there, and comes back into room when it is over', () => {
    expect(leased).toMatchObject({ wanted: [A], displaced: [{ tenant: A, by: 'reservation/x' }] });
    const reconcile: OperationGoal = { kind: 'reconcile', reason: 'a look' };
    const held = tenant('reservation/x', { kind: 'reservation', driver: 'leases', ...on(20_000) });
    const during = resolveTarget(reconcile, leased, policy(), host([tenant(A), held]));
    expect(during.wishes[A]).toBeUndefined();
    const after = resolveTarget(reconcile, leased, policy(), host([tenant(A)]));
    expect(after.wishes[A]).toEqual({ place: 'gpu-if-room', minFreeMb: 0, notBeside: [] });
    expect(afterOperation(leased, ended(reconcile, [A]))).toMatchObject({ wanted: [A], displaced: [] });
  });

  it('does not come back when a person takes it away meanwhile, or moves to a mode', () => {
    expect(afterOperation(leased, ended(unload(A), []))).toMatchObject({ wanted: [], displaced: [] });
    expect(afterOperation(leased, ended(RECORDING, [B]))).toMatchObject({ wanted: [B], displaced: [] });
  });
});

describe('the place of the embedder by hand', () => {
  it('holds until the next mode, and only when it was reached', () => {
    const move = ended({ kind: 'embedder', device: 'cuda' }, []);
    const moved = afterOperation(intents(), move);
    expect(moved.embedderByHand).toBe('cuda');
    expect(afterOperation(intents(), { ...move, status: 'failed' }).embedderByHand).toBeNull();
    expect(afterOperation(moved, ended(load(A), [A])).embedderByHand).toBe('cuda');
    expect(afterOperation(moved, ended(RECORDING, [], { status: 'failed' })).embedderByHand).toBe('cuda');
    expect(afterOperation(moved, ended(RECORDING, [])).embedderByHand).toBeNull();
  });
});

describe('what is wanted after an edge', () => {
  it('keeps what died, and forgets what left', () => {
    expect(afterEdge(wantsA, { kind: 'tenant-died', subject: A, details: '' })).toEqual(wantsA);
    expect(afterEdge(wantsA, { kind: 'tenant-left', subject: A, details: '' }).wanted).toEqual([]);
  });

  it('brings back what the model that left had displaced', () => {
    const left = afterEdge(displacedA, { kind: 'tenant-left', subject: B, details: '' });
    expect(left).toMatchObject({ wanted: [A], displaced: [] });
    const gone = afterEdge(displacedA, { kind: 'tenant-left', subject: A, details: '' });
    expect(gone).toMatchObject({ wanted: [B], displaced: [] });
  });

  it('is degraded while Ollama is away (M16)', () => {
    const away = afterEdge(wantsA, { kind: 'driver-away', subject: 'ollama', details: 'nobody answers' });
    expect(away).toEqual({ ...wantsA, degradedReason: 'nobody answers' });
    expect(afterEdge(away, { kind: 'driver-back', subject: 'ollama', details: '' })).toEqual(wantsA);
    expect(afterEdge(away, { kind: 'vram-changed', subject: 'g0', details: '' })).toBe(away);
  });
});
