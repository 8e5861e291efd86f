import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { modelTenant } from '../../src/contracts/names.js';
import type { Intents, OperationGoal, OperationOutcome, StepOutcome } from '../../src/contracts/operation.js';
import { afterEdge, afterOperation, noIntents } from '../../src/domain/intents.js';
import { resolveTarget } from '../../src/domain/resolveTarget.js';
import { host, on, policy, tenant } from '../domain/planner/hosts.js';

const MODELS = ['qwen3-vl:8b', 'llava:7b', 'tiny'].map(modelTenant);

type Happening =
  | { what: 'load' | 'demand'; model: string; victims: string[]; ends: 'well' | 'badly' }
  | {
      what: 'unload' | 'idle' | 'used-again' | 'unload-fails' | 'dies' | 'leaves' | 'dies-during-a-move';
      model: string;
    }
  | { what: 'reconcile' };

const model = fc.constantFrom(...MODELS);
const happening: fc.Arbitrary<Happening> = fc.oneof(
  fc.record({
    what: fc.constantFrom('load' as const, 'demand' as const),
    model,
    victims: fc.subarray(MODELS),
    ends: fc.constantFrom('well' as const, 'well' as const, 'badly' as const),
  }),
  fc.record({
    what: fc.constantFrom(
      'unload' as const,
      'idle' as const,
      'used-again' as const,
      'unload-fails' as const,
      'dies' as const,
      'leaves' as const,
      'dies-during-a-move' as const,
    ),
    model,
  }),
  fc.constant({ what: 'reconcile' as const }),
);

/** Why a model is not there, as whoever watches the host would say. */
type Absence = 'taken away' | 'died' | { displacedBy: string };

/** A host with room for everything that it restores; `absent` is the judge's own record of why a model is gone. */
class World {
  intents: Intents = noIntents();
  readonly resident = new Set<string>();
  readonly absent = new Map<string, Absence>();

  happen(happening: Happening): void {
    switch (happening.what) {
      case 'load':
      case 'demand':
        return this.load(happening);
      case 'reconcile': {
        const back = this.restored({ kind: 'reconcile', reason: 'a test' });
        for (const one of back) this.comes(one);
        return this.ended(
          { kind: 'reconcile', reason: 'a test' },
          back.map((one) => step('load', one)),
        );
      }
      case 'unload':
      case 'idle':
        return this.unload(happening.what, happening.model);
      case 'used-again':
        if (this.resident.has(happening.model)) this.ended({ kind: 'idle-unload', tenant: happening.model }, []);
        return;
      case 'unload-fails':
        return this.unloadFails(happening.model);
      case 'dies':
        if (!this.resident.delete(happening.model)) return;
        this.absent.set(happening.model, 'died');
        this.intents = afterEdge(this.intents, { kind: 'tenant-died', subject: happening.model, details: '' });
        return;
      case 'dies-during-a-move':
        if (!this.resident.delete(happening.model)) return;
        this.absent.set(happening.model, 'died');
        return this.ended({ kind: 'embedder', device: 'cpu' }, []);
      case 'leaves':
        if (!this.resident.delete(happening.model)) return;
        this.absent.set(happening.model, 'taken away');
        this.demandEnds(happening.model);
        this.intents = afterEdge(this.intents, { kind: 'tenant-left', subject: happening.model, details: '' });
    }
  }

  /** What an operation would load besides what it was asked for. */
  restored(goal: OperationGoal): string[] {
    const tenants = MODELS.map((id) => tenant(id, this.resident.has(id) ? on(4000) : {}));
    const { wishes } = resolveTarget(goal, this.intents, policy(), host(tenants));
    return MODELS.filter((id) => wishes[id]?.place === 'gpu-if-room' || wishes[id]?.place === 'gpu');
  }

  private load({ what, model, victims, ends }: Extract<Happening, { victims: string[] }>): void {
    const goal: OperationGoal = { kind: 'model', tenant: model, verb: 'load', demand: what === 'demand' };
    if (this.resident.has(model)) return this.ended(goal, []);
    const out = victims.filter((victim) => victim !== model && this.resident.has(victim));
    const steps = out.map((victim) => step('unload', victim));
    if (ends === 'badly')
      return this.ended(goal, [...steps, ...out.map((victim) => step('load', victim))], 'failed', out);
    for (const victim of out) {
      this.resident.delete(victim);
      this.absent.set(victim, what === 'demand' ? { displacedBy: model } : 'taken away');
      if (what === 'load') this.demandEnds(victim);
    }
    this.comes(model);
    this.ended(goal, [...steps, step('load', model)], 'done', out);
  }

  private unload(what: 'unload' | 'idle', model: string): void {
    if (what === 'idle' && !this.resident.has(model)) return;
    const goal: OperationGoal =
      what === 'idle'
        ? { kind: 'idle-unload', tenant: model }
        : { kind: 'model', tenant: model, verb: 'unload', demand: false };
    const back = this.restored(goal);
    this.resident.delete(model);
    this.absent.set(model, 'taken away');
    for (const one of back) this.comes(one);
    this.demandEnds(model);
    this.ended(goal, [step('unload', model), ...back.map((one) => step('load', one))]);
  }

  /** Gone by its API, but the proof failed: its memory still counts as its own, and comes back later. */
  private unloadFails(model: string): void {
    if (!this.resident.has(model)) return;
    this.ended({ kind: 'model', tenant: model, verb: 'unload', demand: false }, [], 'failed');
    this.resident.delete(model);
    this.absent.set(model, 'taken away');
    this.demandEnds(model);
  }

  private comes(model: string): void {
    this.resident.add(model);
    this.absent.delete(model);
  }

  /** What it displaced is to come back. */
  private demandEnds(model: string): void {
    for (const [other, why] of this.absent) {
      if (typeof why === 'object' && why.displacedBy === model) this.absent.set(other, 'died');
    }
  }

  private ended(
    goal: OperationGoal,
    steps: StepOutcome[],
    status: OperationOutcome['status'] = 'done',
    displaced: string[] = [],
  ): void {
    this.intents = afterOperation(this.intents, {
      status,
      goal,
      summary: '',
      steps,
      failure: null,
      failedTenant: null,
      refusal: null,
      supersededBy: null,
      compensation: null,
      displaced,
      residency: Object.fromEntries(MODELS.map((id) => [id, this.resident.has(id) ? ['g0'] : []])),
      epochs: {},
      totalMs: 1,
    });
  }
}

const step = (kind: 'load' | 'unload', id: string): StepOutcome => ({
  step: `${kind} ${id}`,
  kind,
  tenant: id,
  ms: 1,
  attempts: 1,
  proof: { beforeMb: {}, afterMb: {}, reclaimMs: null, by: 'a test' },
  acted: true,
});

describe('what the host wants', () => {
  test('what was taken away is never restored, what died is, and what a demand displaced when that demand ends', () => {
    let restored = 0;
    let displaced = 0;
    fc.assert(
      fc.property(fc.array(happening, { minLength: 8, maxLength: 40 }), (list) => {
        const world = new World();
        for (const one of list) {
          world.happen(one);
          const back = world.restored({ kind: 'reconcile', reason: 'a look' });
          for (const id of MODELS) {
            const why = world.absent.get(id);
            if (why === undefined) continue;
            // Displaced by what itself is displaced, or has died and is wanted: its time comes later.
            if (typeof why === 'object') {
              displaced += 1;
              if (world.resident.has(why.displacedBy)) expect(back).not.toContain(id);
              continue;
            }
            if (why === 'died') {
              restored += 1;
              expect(back).toContain(id);
            } else expect(back).not.toContain(id);
          }
        }
        // Once all is restored, nothing more is.
        world.happen({ what: 'reconcile' });
        world.happen({ what: 'reconcile' });
        expect(world.restored({ kind: 'reconcile', reason: 'a look' })).toEqual([]);
      }),
      { numRuns: 400 },
    );
    expect(restored).toBeGreaterThan(200);
    expect(displaced).toBeGreaterThan(200);
  });
});
