import { describe, expect, it } from 'vitest';
import { checkGoal } from '../../src/domain/checkGoal.js';
import { policy } from './planner/hosts.js';

describe('a goal names what the configuration has (law 12)', () => {
  it.each(['recording', 'autopilot', 'idle'])('mode %s', (mode) => {
    expect(checkGoal({ kind: 'mode', mode }, policy())).toBeNull();
  });

  it.each(['party', 'constructor', 'toString', '__proto__', ''])('no mode %s', (mode) => {
    const refused = checkGoal({ kind: 'mode', mode }, policy());
    expect(refused).toMatchObject({ type: 'UnknownMode', remedy: 'the modes are: autopilot, idle, recording' });
  });

  it('a model to load, but to unload also one that someone else loaded', () => {
    const goal = { kind: 'model', tenant: 'model/mistral:7b', demand: false } as const;
    expect(checkGoal({ ...goal, verb: 'load' }, policy())).toMatchObject({
      type: 'UnknownTenant',
      remedy: 'the models are: llava:7b, qwen3-vl:8b, tiny',
    });
    expect(checkGoal({ ...goal, verb: 'unload' }, policy())).toBeNull();
    expect(checkGoal({ ...goal, tenant: 'model/tiny', verb: 'load' }, policy())).toBeNull();
    expect(checkGoal({ kind: 'embedder', device: 'cpu' }, policy())).toBeNull();
  });
});
